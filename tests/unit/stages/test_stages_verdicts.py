"""Verdicts of answers against answers, and the names that ratings give to players."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cai_lightning.evaluation.summary import Run
from cai_lightning.stages import verdicts
from cai_lightning.stages.ratings import _with
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Answer, Assessment, Prompt, Verdict, read_rows, write_rows


class Longest:
    """The longer answer wins."""

    def criteria_for(self, kind: str) -> tuple[str, ...]:
        return ("harmless",) if kind == "red_team" else ()

    def compare(self, _criterion: str, _dialogue: Dialogue, a: str, b: str) -> float:
        return 0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b)))

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


def judge(out: Path, mine: Path, *opponents: Path) -> Path:
    out.mkdir()
    return verdicts.run(out, answers=mine, opponents=list(opponents), judge=Longest())


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
