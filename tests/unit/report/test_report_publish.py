from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_findings import made
from made_outputs import Outputs
from matplotlib.figure import Figure

from cai_lightning.report import publish
from cai_lightning.report.publish import content, jobs, write_beside


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_the_table_of_an_artifact_is_the_json_that_is_not_the_store_s(tmp_path: Path) -> None:
    for name in ("manifest", "timing", "hits", "surface"):
        write(tmp_path / f"{name}.json", {"of": name})
    assert content(tmp_path) == ("surface", {"of": "surface"})
    write(tmp_path / "another.json", {})
    with pytest.raises(ValueError, match=r"must hold one table as JSON, holds another.json, surface.json"):
        content(tmp_path)
    with pytest.raises(ValueError, match="holds none"):
        content(tmp_path / "nowhere")


def test_jobs_of_a_sweep_come_in_their_order_without_those_that_did_not_finish(tmp_path: Path) -> None:
    for number in (0, 2, 10, 11):
        job = tmp_path / str(number)
        write(job / "summary.json", {"seeds": [number], "feedback": {"n": 1}, "reward_model": {}, "players": {}})
        write(job / ".hydra" / "overrides.yaml", [f"kl={number}", "note='a: b'"])
        if number != 11:
            write(job / "run.json", {})
    found = jobs(tmp_path)
    assert [job["job"] for job in found] == ["0", "2", "10"]
    assert found[1] == {
        "job": "2",
        "overrides": ["kl=2", "note='a: b'"],
        "seeds": [2],
        "feedback": {"n": 1},
        "reward_model": {},
    }
    assert jobs(tmp_path / "0") == []


def test_many_ties_are_warned_of_where_they_are_half_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def published(ties: dict[str, float], **more: Any) -> tuple[dict[str, Any], str, str]:
        made_up = Outputs(tmp_path / f"{ties}{[*more]}")
        folder = made_up.root / "run"
        folder.mkdir()
        name = made_up.rated("k", {"helpful_only": (0.0, 0.0), "ppo": (3.0, 4.0)}, judge="Oracle", prompts="p")
        file = made_up.root / "store" / name / "ratings.json"
        table = json.loads(file.read_text())
        table["variants"][""] |= {"ties": ties, **more}
        file.write_text(json.dumps(table))
        publish.run(
            folder,
            run={"experiment": "ties", "replicate": 0, "seconds": 1.0, "peak_rss_mb": 1, "stages": {}},
            ratings=file.parent,
            calibration=None,
            reward_accuracy=None,
            evals=None,
            tables={},
            revisions=made_up.root / "store" / "revise" / "r",
            answers=[made_up.root / "store" / "answers" / "ppo-k"],
            judge="oracle",
            most_ties=0.2,
            transcripts=3,
            note=None,
        )
        summary = json.loads((folder / "summary.json").read_text())
        return summary, (folder / "report.html").read_text(), capsys.readouterr().out

    many = {"helpful": 0.2, "harmless": 0.45}
    summary, page, said = published(many)
    (words,) = summary["warnings"]
    assert summary["ties"] == many
    assert words.startswith(
        "45.0 % of the verdicts on harmless are ties, more than 20.0 %, and each counts as half a win"
    )
    assert words in page and f"warning: {words}" in said
    equals = {"harmless": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}
    summary, page, said = published(many, davidson=equals)
    assert summary["warnings"] == [] and summary["ties"] == many and "warning" not in said
    assert "A tie is an outcome of its own. Players of equal strength would tie in: harmless 50.0 %." in page


def test_findings_among_the_tables_of_a_rated_run_are_drawn_and_listed(tmp_path: Path) -> None:
    made_up = Outputs(tmp_path)
    players = {"helpful_only": (0.0, 0.0), "sl_cai": (1.0, 2.0), "ppo": (3.0, 4.0)}
    ratings = made_up.rated("k", players, judge="Oracle", prompts="p")
    store, folder = tmp_path / "store", tmp_path / "run"
    folder.mkdir()
    publish.run(
        folder,
        run={"experiment": "both", "replicate": 0, "seconds": 1.0, "peak_rss_mb": 1, "stages": {}},
        ratings=store / ratings,
        calibration=None,
        reward_accuracy=None,
        evals=None,
        tables={"rounds": store / "findings" / "f"},
        revisions=store / "revise" / "r",
        answers=[store / "answers" / "ppo-k"],
        judge="oracle",
        most_ties=0.2,
        transcripts=3,
        note=None,
    )
    page = (folder / "report.html").read_text()
    assert "<h2>Findings: rounds of revision</h2>" in page and "On public files" not in page
    assert json.loads((folder / "summary.json").read_text())["tables"]["rounds"]["name"] == "rounds of revision"
    assert {path.stem for path in folder.glob("figures/*.png")} >= {"frontier", "rounds_of_revision"}
    assert len((folder / "findings.csv").read_text().splitlines()) == 1 + 17


def test_findings_named_as_a_figure_of_the_run_do_not_take_its_place(tmp_path: Path) -> None:
    write_beside(tmp_path, {"frontier": Figure()}, [made(name="frontier"), made(name="rounds")])
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "frontier.png",
        "frontier_arms.png",
        "rounds.png",
    }
    sizes = {path.stem: path.stat().st_size for path in (tmp_path / "figures").iterdir()}
    assert sizes["frontier"] < sizes["frontier_arms"] == sizes["rounds"]
