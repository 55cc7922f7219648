import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.stages.ensemble import Combine, log_odds, mean_log_odds, run, vote
from cai_lightning.text.records import Label, read_rows, write_rows


def folder(path: Path, rows: Sequence[Label]) -> Path:
    path.mkdir()
    write_rows(path, rows)
    return path


def ensemble(tmp_path: Path, members: dict[str, list[Label]], **changes: Any) -> tuple[list[Label], Any]:
    out = tmp_path / "out"
    out.mkdir()
    settings: dict[str, Any] = {"combine": mean_log_odds, "clamp": None, "weight": 1.0}
    settings |= {"weights": dict.fromkeys(members, 1.0), **changes}
    run(out, members={name: folder(tmp_path / name, rows) for name, rows in members.items()}, **settings)
    return read_rows(out, Label), json.loads((out / "counts.json").read_text())


def test_the_mean_is_of_log_odds_and_ignores_the_members_clamps(
    tmp_path: Path, make_label: Callable[..., Label]
) -> None:
    one = [make_label("x", p_a=0.6, logit_ab=5.0, logit_ba=3.0), make_label("y", logit_ab=-1.0, logit_ba=-1.0)]
    two = [make_label("x", p_a=0.4, logit_ab=-2.0, logit_ba=-2.0), make_label("y", logit_ab=1.0, logit_ba=1.0)]
    rows, counts = ensemble(tmp_path, {"one": one, "two": two})
    # sigmoid((4 - 2) / 2) and sigmoid(0)
    assert [row.p_a for row in rows] == pytest.approx([0.731058578630, 0.5], abs=1e-12)
    assert [(row.logit_ab, row.logit_ba, row.logits) for row in rows] == [(1.5, 0.5, (4.0, -2.0)), (0, 0, (-1.0, 1.0))]
    assert {row.model for row in rows} == {"one+two"}
    assert counts == {
        "rows": 2,
        "members": {"one": {"weight": 0.5, "with_ensemble": 0.5}, "two": {"weight": 0.5, "with_ensemble": 0.0}},
        "agreement": {"one/two": 0.0},
    }


def test_weights_and_votes(tmp_path: Path, make_label: Callable[..., Label]) -> None:
    members = {
        name: [make_label("x", logit_ab=logit)] for name, logit in (("one", 9.0), ("two", -1.0), ("three", -1.0))
    }
    (row,), counts = ensemble(tmp_path, members, combine=vote, clamp=(0.4, 0.6))
    assert (row.p_a, row.logit_ba) == (0.4, None)
    assert counts["agreement"] == {"one/two": 0.0, "one/three": 0.0, "two/three": 1.0}
    assert vote([9.0, -1.0, -1.0], [1.0, 1.0, 1.0]) == pytest.approx(1 / 3)
    assert vote([9.0, -1.0, 0.0], [2.0, 1.0, 1.0]) == 0.625
    assert mean_log_odds([2.0, -1.0], [1.0, 2.0]) == 0.5


def test_thoughts_count_by_their_mean_probability(make_label: Callable[..., Label]) -> None:
    # p = (sigmoid(10) + sigmoid(-1)) / 2 = .634448, log-odds .55135
    row = make_label("x", logit_ab=10.0, logit_ba=-1.0, thoughts=("t", "u"))
    assert log_odds(row) == pytest.approx(0.55135, abs=1e-5)
    assert log_odds(make_label("x", logit_ab=10.0, logit_ba=-1.0)) == 4.5


def test_principles_of_the_members_are_all_named(tmp_path: Path, make_label: Callable[..., Label]) -> None:
    one = [make_label("x", logit_ab=1.0, principle="kind", principle_hash="h")]
    two = [make_label("x", logit_ab=1.0, principle="safe", principle_hash="i")]
    assert ensemble(tmp_path, {"one": one, "two": two})[0][0].principle == "kind+safe"


@pytest.mark.parametrize("combine", [mean_log_odds, vote])
def test_equal_members_give_their_own_preference(
    tmp_path: Path, make_label: Callable[..., Label], combine: Combine
) -> None:
    rows = [make_label(f"x{i}", logit_ab=i - 1.5, principle="kind", principle_hash="h") for i in range(4)]
    found, counts = ensemble(tmp_path, {"one": rows, "two": rows}, combine=combine)
    assert [row.p_a > 0.5 for row in found] == [False, False, True, True]
    assert (found[0].principle, found[0].principle_hash) == ("kind", "h")
    assert counts["agreement"] == {"one/two": 1.0}


def test_members_must_be_labels_by_models_of_the_same_comparisons(
    tmp_path: Path, make_label: Callable[..., Label]
) -> None:
    with pytest.raises(ValueError, match=r"members\.two: its rows are not those of one"):
        ensemble(tmp_path, {"one": [make_label("x", logit_ab=1.0)], "two": [make_label("y", logit_ab=1.0)]})
    with pytest.raises(ValueError, match="label x: has no log-odds"):
        log_odds(make_label("x"))
    with pytest.raises(ValueError, match="weights: "):
        run(tmp_path, members={"one": tmp_path}, weights={}, combine=vote, clamp=None, weight=1.0)
