"""Labels of several sources in one list."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cai_lightning.stages.mixture import mixed_labels
from cai_lightning.text.records import Label, write_rows


@pytest.fixture
def sources(tmp_path: Path, make_label: Callable[..., Label]) -> dict[str, Path]:
    folders = {"ai": tmp_path / "ai", "human": tmp_path / "human"}
    for name, folder in folders.items():
        folder.mkdir()
        write_rows(folder, [make_label(f"{name}{number}") for number in range(10)])
    return folders


def mix(sources: dict[str, Path], *, human: int | None, seed: int = 0) -> list[Label]:
    limits, weights = {"ai": None, "human": human}, {"ai": 1.0, "human": 0.5}
    return mixed_labels(sources, limits=limits, weights=weights, seed=seed)


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
            seed=0,
        )


@pytest.mark.parametrize("lacking", ["limits", "weights"])
def test_every_source_needs_a_limit_and_a_weight(sources: dict[str, Path], lacking: str) -> None:
    given: dict[str, dict[str, int]] = {"limits": {"ai": 1, "human": 1}, "weights": {"ai": 1, "human": 1}}
    del given[lacking]["human"]
    with pytest.raises(ValueError, match=f"{lacking}: no entry for the source 'human'"):
        mixed_labels(sources, **given, seed=0)  # type: ignore[arg-type]
