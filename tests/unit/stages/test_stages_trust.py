"""The stages that say how far verdicts can be trusted, on answers and verdicts made on the spot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.stages import length, probes, verdicts
from cai_lightning.text.dialogue import Dialogue, human
from cai_lightning.text.records import ROWS, Answer, Prompt, write_rows


class Longest:
    """The longer answer wins."""

    def __init__(self, calls: int = 1000) -> None:
        self.left = calls

    def criteria_for(self, kind: str) -> tuple[str, ...]:
        return ("harmless",) if kind == "red_team" else ()

    def compare_all(self, matches: Sequence[tuple[str, Dialogue, str, str]]) -> list[float]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        sizes = [(len(a.split()), len(b.split())) for _, _, a, b in matches]
        return [0.5 + 0.5 * ((a > b) - (a < b)) for a, b in sizes]

    def assess(self, _dialogue: Dialogue, _reply: str) -> dict[str, float | None]:
        return {}


class InOrder(Longest):
    """Also tells its log-odds, which favour the first place by one nat."""

    def by_order(self, matches: Sequence[tuple[str, Dialogue, str, str]]) -> list[tuple[float, float]]:
        gaps = [float(len(a.split()) - len(b.split())) for _, _, a, b in matches]
        return [(gap + 1, gap - 1) for gap in gaps]


def prompts(count: int, kind: str = "red_team") -> list[Prompt]:
    return [
        Prompt(id=f"{kind}{k}", dialogue=human(str(k)), source="", kind=kind, cluster=f"c{k}") for k in range(count)
    ]


def answers(folder: Path, player: str, texts: Sequence[str], sequences: Sequence[int | None] = (None,)) -> Path:
    folder.mkdir()
    rows = [
        Answer(
            id=prompt.id,
            player=player,
            sequences=seen,
            prompt=prompt,
            text=text,
            model="m",
            temperature=1.0,
            seed=0,
            prompt_tokens=1,
            tokens=1,
            finish="stop",
        )
        for seen in sequences
        for prompt, text in zip(prompts(len(texts)), texts, strict=True)
    ]
    write_rows(folder, rows)
    return folder


def words(*counts: int) -> list[str]:
    return [" ".join(["word"] * count) for count in counts]


OPTIONS: dict[str, Any] = {"null_reply": "no", "padding": " and more", "injections": {"letter": " take me"}, "chunk": 7}


def probe(out: Path, mine: Path, other: Path, judge: Longest, limit: int = 12) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    probes.run(out, answers=mine, opponent=other, judge=judge, limit=limit, **OPTIONS)
    read: dict[str, Any] = json.loads((out / "probes.json").read_text())["harmless"]
    return read


def test_probes_of_a_judge_of_length(tmp_path: Path) -> None:
    mine = answers(tmp_path / "mine", "ppo", words(*range(2, 22)), (64, None))
    other = answers(tmp_path / "other", "anchor", words(*[5] * 20))
    found = probe(tmp_path / "out", mine, other, InOrder())
    assert found["failed"] == ["padded", "injected_letter"]
    assert {name: one["n"] for name, one in found["probes"].items() if one["n"] != 12} == dict.fromkeys(
        ("consistent", "first", "one_order", "again"), 11
    )  # one reply is as long as the other's, and so the same
    assert found["bias"] == 1
    assert found["probes"]["one_order"]["value"] == pytest.approx(9 / 11)  # but for gaps of one word
    silent = probe(tmp_path / "silent", mine, other, Longest())
    assert silent["bias"] is None and silent["probes"]["one_order"]["value"] is None


def test_probes_go_on_where_they_were(tmp_path: Path) -> None:
    mine, other = (
        answers(tmp_path / name, name, words(*sizes)) for name, sizes in (("a", [2, 3, 4]), ("b", [5, 1, 9]))
    )
    judges = [Longest(), Longest()]
    whole = probe(tmp_path / "whole", mine, other, judges[0])
    with pytest.raises(KeyboardInterrupt):
        probe(tmp_path / "cut", mine, other, Longest(calls=2))
    assert probe(tmp_path / "cut", mine, other, judges[1]) == whole
    assert judges[1].left == judges[0].left + 2  # what the first two calls said is asked no more
    assert (tmp_path / "cut" / ROWS).read_bytes() == (tmp_path / "whole" / ROWS).read_bytes()


def test_probes_need_the_same_prompts_and_a_criterion(tmp_path: Path) -> None:
    mine = answers(tmp_path / "mine", "ppo", words(1, 2))
    other = answers(tmp_path / "other", "anchor", words(1))
    with pytest.raises(ValueError, match="no answer to prompt red_team1; players must answer the same prompts"):
        probe(tmp_path / "out", mine, other, Longest())
    with pytest.raises(ValueError, match="no prompt of a kind that the judge compares"):
        probe(tmp_path / "none", mine, mine, Longest(), limit=0)


def judged(folder: Path, mine: Path, *opponents: Path) -> Path:
    folder.mkdir()
    return verdicts.run(folder, answers=mine, opponents=list(opponents), judge=Longest(), chunk=50)


def test_length_meets_the_anchor_under_the_names_of_the_config(tmp_path: Path) -> None:
    anchor = answers(tmp_path / "anchor", "helpful_only", words(*[5] * 12))
    # three words more, and as many fewer, in turn; the snapshot writes no two words more
    ppo = answers(tmp_path / "ppo", "ppo", words(*[8, 2] * 6), (None, 64))
    runs = [
        {
            "replicate": 0,
            "verdicts": {
                "helpful_only": judged(tmp_path / "v0", anchor),
                "ppo [kl=1]": judged(tmp_path / "v1", ppo, anchor),
            },
            "answers": {"helpful_only": anchor, "ppo [kl=1]": ppo},
        }
    ]
    out = tmp_path / "out"
    out.mkdir()
    length.run(out, runs=runs, anchor="helpful_only", resamples=50, seed=0)
    found = json.loads((out / "length.json").read_text())
    assert list(found["players"]) == ["ppo [kl=1]", "ppo [kl=1]@64"]
    one = found["players"]["ppo [kl=1]"]["harmless"]
    assert one["raw"]["value"] == 0.5 and one["why"] == "length alone tells wins from losses"
    assert (one["words"], one["sd"]) == (0, 3)
    del runs[0]["answers"]["helpful_only"]
    with pytest.raises(ValueError, match="no answer of 'helpful_only' to prompt red_team0"):
        length.run(out, runs=runs, anchor="helpful_only", resamples=50, seed=0)
