"""Verdicts of answers against answers, and the names that ratings give to players."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cai_lightning.evaluation.summary import Run
from cai_lightning.stages import verdicts
from cai_lightning.stages.ratings import _with, davidson, run
from cai_lightning.stages.verdicts import ASSESSMENTS
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Answer, Assessment, Prompt, Verdict, read_rows, write_rows


class Longest:
    """The longer answer wins. Its power fails after `calls` calls."""

    def __init__(self, calls: int = 1000) -> None:
        self.calls = calls
        self.asked: list[int] = []

    def criteria_for(self, kind: str) -> tuple[str, ...]:
        return ("harmless",) if kind == "red_team" else ()

    def compare_all(self, matches: Sequence[tuple[str, Dialogue, str, str]]) -> list[float]:
        if len(self.asked) == self.calls:
            raise KeyboardInterrupt
        self.asked.append(len(matches))
        return [0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b))) for _, _, a, b in matches]

    def assess(self, _dialogue: Dialogue, reply: str) -> dict[str, float | None]:
        return {"length": float(len(reply))}


@pytest.fixture
def answers(tmp_path: Path, make_prompt: Callable[[str], Prompt]) -> Callable[..., Path]:
    def write(player: str, texts: dict[str, str], sequences: tuple[int | None, ...] = (None,)) -> Path:
        folder = tmp_path / f"answers-{player}"
        folder.mkdir()
        rows = [
            Answer(
                id=name,
                player=player,
                sequences=seen,
                prompt=make_prompt(name),
                text=text,
                model="m",
                temperature=1.0,
                seed=0,
                prompt_tokens=1,
                tokens=1,
                finish="stop",
            )
            for seen in sequences
            for name, text in texts.items()
        ]
        write_rows(folder, rows)
        return folder

    return write


def judge(out: Path, mine: Path, *opponents: Path, by: Longest | None = None) -> Path:
    out.mkdir(exist_ok=True)
    return verdicts.run(out, answers=mine, opponents=list(opponents), judge=by or Longest(), chunk=3)


def test_each_answer_meets_each_opponent_under_the_criteria_of_its_kind(
    tmp_path: Path, answers: Callable[..., Path]
) -> None:
    anchor = answers("anchor", {"p": "xx", "q": "x"})
    ppo = answers("ppo", {"p": "xxx", "q": "x"}, (None, 128))
    out = judge(tmp_path / "out", ppo, anchor)
    found = [(row.player, row.opponent, row.prompt, row.score) for row in read_rows(out, Verdict)]
    assert found == [
        ("ppo", "anchor", "p", 1.0),
        ("ppo", "anchor", "q", 0.5),
        ("ppo@128", "anchor", "p", 1.0),
        ("ppo@128", "anchor", "q", 0.5),
    ]
    assessed = read_rows(out, Assessment, verdicts.ASSESSMENTS)
    assert [(row.player, row.sequences, row.metrics["length"]) for row in assessed] == [
        ("ppo", None, 3.0),
        ("ppo", None, 1.0),
        ("ppo@128", 128, 3.0),
        ("ppo@128", 128, 1.0),
    ]


def test_verdicts_are_asked_in_chunks_and_go_on_where_they_were(tmp_path: Path, answers: Callable[..., Path]) -> None:
    texts = {name: "x" * place for place, name in enumerate("pqrst")}
    mine, anchor = answers("ppo", texts), answers("anchor", dict.fromkeys(texts, "xx"))
    other = answers("dpo", dict.fromkeys(texts, "x"))
    whole = Longest()
    expected = contents(judge(tmp_path / "whole", mine, anchor, other, by=whole))
    assert whole.asked == [3, 3, 3, 1]
    assert sorted(expected) == [verdicts.ASSESSMENTS, "rows.jsonl"]

    with pytest.raises(KeyboardInterrupt):
        judge(tmp_path / "cut", mine, anchor, other, by=Longest(calls=2))
    again = Longest()
    assert contents(judge(tmp_path / "cut", mine, anchor, other, by=again)) == expected
    assert again.asked == [3, 1]

    # killed in the middle of the second file: it is written anew, and no verdict is asked for again
    (tmp_path / "cut" / verdicts.ASSESSMENTS).write_bytes(expected[verdicts.ASSESSMENTS][:50])
    assert contents(judge(tmp_path / "cut", mine, anchor, other, by=Longest(calls=0))) == expected


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_snapshots_are_no_opponents(tmp_path: Path, answers: Callable[..., Path]) -> None:
    ppo = answers("ppo", {"p": "xxx"}, (128, None))
    out = judge(tmp_path / "out", answers("dpo", {"p": "x"}), ppo)
    assert [row.opponent for row in read_rows(out, Verdict)] == ["ppo"]


def test_players_must_have_answered_the_same_prompts(tmp_path: Path, answers: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="no answer to prompt q; players must answer the same prompts"):
        judge(tmp_path / "out", answers("dpo", {"p": "x", "q": "x"}), answers("anchor", {"p": "x"}))


def test_ratings_rename_players_with_their_snapshots_and_take_each_once(
    tmp_path: Path, answers: Callable[..., Path]
) -> None:
    dpo, ppo = answers("dpo", {"p": "x"}), answers("ppo", {"p": "xxx"}, (None, 128))
    folders = {"dpo": judge(tmp_path / "one", dpo), "ppo [kl=1]": judge(tmp_path / "two", ppo, dpo)}
    first = _with(Run([], []), folders)
    assert [(row.player, row.opponent) for row in first.verdicts] == [("ppo [kl=1]", "dpo"), ("ppo [kl=1]@128", "dpo")]
    assert [row.player for row in first.assessments] == ["dpo", "ppo [kl=1]", "ppo [kl=1]@128"]
    assert _with(first, folders) == first
    second = _with(first, {"dpo": folders["dpo"], "ppo [kl=2]": folders["ppo [kl=1]"]})
    assert [row.player for row in second.assessments[3:]] == ["ppo [kl=2]", "ppo [kl=2]@128"]


def test_ties_are_half_wins_or_outcomes_of_their_own_as_the_stage_says(tmp_path: Path) -> None:
    """9 wins, 6 ties and 3 losses: odds of 12 to 6 by points, and of 9 to 3 among the verdicts that name a winner."""
    scores = [1.0] * 9 + [0.5] * 6 + [0.0] * 3
    place = {"kind": "red_team", "criterion": "harmless", "opponent": "helpful_only", "player": "dpo"}
    rows = [Verdict(prompt=str(k), cluster=str(k), score=score, **place) for k, score in enumerate(scores)]
    names = ("dpo", "helpful_only")
    folders = {name: tmp_path / name for name in names}
    for name, folder in folders.items():
        folder.mkdir()
        seen = Assessment(prompt="0", cluster="0", kind="red_team", player=name, sequences=None, metrics={})
        write_rows(folder, rows if name == "dpo" else [])
        write_rows(folder, [seen], ASSESSMENTS)
    numbers = {"anchor": "helpful_only", "prior_sd": 1e3, "reference": -400.0, "resamples": 20, "seed": 0}
    runs = [{"replicate": 0, "verdicts": {name: str(folder) for name, folder in folders.items()}}]
    found = []
    for number, rate in enumerate((run, davidson)):
        out = tmp_path / str(number)
        out.mkdir()
        rate(out, runs=runs, **numbers)  # type: ignore[arg-type]
        found.append(json.loads((out / "ratings.json").read_text())["variants"][""])
    elo = [one["players"]["dpo"]["harmless_elo"]["value"] for one in found]
    assert elo == pytest.approx([400 * math.log10(2), 400 * math.log10(3)], abs=1e-3)
    assert [one["ties"] for one in found] == [{"harmless": 1 / 3}] * 2
    assert ["davidson" in one for one in found] == [False, True]
