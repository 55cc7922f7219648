"""Labels of several sources in one list."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_lightning.data.wrappers import share
from cai_lightning.stages.mixture import in_part, mixed_labels
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, write_rows


@pytest.fixture
def sources(tmp_path: Path, make_label: Callable[..., Label]) -> dict[str, Path]:
    folders = {"ai": tmp_path / "ai", "human": tmp_path / "human"}
    for name, folder in folders.items():
        folder.mkdir()
        write_rows(folder, [make_label(f"{name}{number}") for number in range(10)])
    return folders


def mix(sources: dict[str, Path], *, human: int | None, seed: int = 0) -> list[Label]:
    limits, weights = {"ai": None, "human": human}, {"ai": 1.0, "human": 0.5}
    return mixed_labels(sources, limits=limits, weights=weights, part=None, seed=seed)


def test_sources_follow_each_other_with_their_names_and_weights(sources: dict[str, Path]) -> None:
    rows = mix(sources, human=None)
    assert [row.id for row in rows] == [f"ai{n}" for n in range(10)] + [f"human{n}" for n in range(10)]
    assert {(row.source, row.weight) for row in rows} == {("ai", 2.0), ("human", 1.0)}


def test_a_limit_draws_by_seed_and_keeps_the_order(sources: dict[str, Path]) -> None:
    drawn = {seed: [row.id for row in mix(sources, human=3, seed=seed)][10:] for seed in range(5)}
    assert all(len(ids) == 3 and ids == sorted(ids) for ids in drawn.values())
    assert len({tuple(ids) for ids in drawn.values()}) > 1
    assert drawn[0] == [row.id for row in mix(sources, human=3, seed=0)][10:]


def test_smaller_limits_are_subsets_of_larger_ones(sources: dict[str, Path]) -> None:
    ids = [{row.id for row in mix(sources, human=limit)} for limit in (0, 2, 5, 50)]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    assert len(ids[3]) == 20


def test_ids_must_be_unique_over_sources(sources: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="id 'ai0' stands in ai and human; ids must be unique"):
        mixed_labels(
            {"ai": sources["ai"], "human": sources["ai"]},
            limits={"ai": 1000, "human": None},
            weights={"ai": 1.0, "human": 1.0},
            part=None,
            seed=0,
        )


@pytest.mark.parametrize("lacking", ["limits", "weights"])
def test_every_source_needs_a_limit_and_a_weight(sources: dict[str, Path], lacking: str) -> None:
    missing: dict[str, dict[str, int]] = {"limits": {"ai": 1, "human": 1}, "weights": {"ai": 1, "human": 1}}
    del missing[lacking]["human"]
    with pytest.raises(ValueError, match=f"{lacking}: no entry for the source 'human'"):
        mixed_labels(sources, **missing, part=None, seed=0)  # type: ignore[arg-type]


def labels_of(clusters: list[str]) -> list[Label]:
    fields = dict.fromkeys(("logit_ab", "logit_ba", "principle", "principle_hash", "model"))
    return [
        Label(
            id=str(number),
            prompt=Prompt(id=str(number), dialogue=human("what ?"), source="", kind="", cluster=cluster),
            a="x",
            b="y",
            p_a=1.0,
            source="",
            weight=1.0,
            **fields,  # type: ignore[arg-type]
        )
        for number, cluster in enumerate(clusters)
    ]


@given(st.lists(st.text(max_size=3), max_size=40), st.integers(1, 5), st.randoms())
def test_parts_are_all_rows_once_with_no_cluster_in_two_and_know_no_order(clusters, of, random):  # type: ignore[no-untyped-def]
    rows = labels_of(clusters)
    parts = [in_part(rows, {"number": number, "of": of}) for number in range(of)]
    assert sorted((row.id for part in parts for row in part), key=int) == [row.id for row in rows]
    found = [{row.prompt.cluster for row in part} for part in parts]
    assert sum(map(len, found)) == len(set().union(*found))
    assert all(part == [row for row in rows if row in part] for part in parts)
    mixed = random.sample(rows, len(rows))
    for number, part in enumerate(parts):
        assert {row.id for row in in_part(mixed, {"number": number, "of": of})} == {row.id for row in part}
    assert in_part(rows, None) == rows


def test_a_part_is_the_remainder_of_the_hash_of_its_clusters() -> None:
    # printf part/c0 | sha256sum and so on end with c 1 d 4 f 0 9 b: even 0, 3, 5
    rows = labels_of([f"c{number}" for number in range(8)])
    assert [row.id for row in in_part(rows, {"number": 0, "of": 2})] == ["0", "3", "5"]
    assert [row.id for row in in_part(rows, {"number": 1, "of": 2})] == ["1", "2", "4", "6", "7"]


def test_halves_are_halves_also_of_what_a_share_of_a_file_left() -> None:
    """Of 1,000 clusters the share of one half has a standard deviation of .016."""
    rows = labels_of([f"c{number}" for number in range(2000)])
    left = share(rows=rows, seed=0, start=0.0, stop=0.5).rows
    assert len(in_part(left, {"number": 0, "of": 2})) / len(left) == pytest.approx(0.5, abs=0.07)


def test_a_part_is_taken_before_the_limit_and_by_no_seed(tmp_path: Path) -> None:
    rows = labels_of([f"c{number // 3}" for number in range(300)])
    write_rows(tmp_path, rows)
    halves: list[set[str]] = []
    for number, seed in ((0, 5), (1, 6)):
        found = mixed_labels(
            {"ai": tmp_path},
            limits={"ai": 40},
            weights={"ai": 1.0},
            part={"number": number, "of": 2},
            seed=seed,
        )
        assert len(found) == 40
        halves.append({row.prompt.cluster for row in found})
    assert not halves[0] & halves[1]


@pytest.mark.parametrize(
    "part", [{"number": 2, "of": 2}, {"number": -1, "of": 2}, {"number": 0}, {"number": 0, "of": 0}]
)
def test_a_part_that_there_is_not_is_one_line(part: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"^part: .* given; write \{number: 0, of: 2\}, numbers from 0"):
        in_part([], part)
