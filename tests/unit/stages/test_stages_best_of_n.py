"""The best of n samples: which is chosen, that noise knows row and sample alone, and what a kill leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai_lightning import microworld
from cai_lightning.microworld.prompts import red_team
from cai_lightning.models.adapters import full
from cai_lightning.models.engine import CausalBackend
from cai_lightning.models.reward import load_reward, reward_from_causal, save_reward
from cai_lightning.stages import answers, best_of_n, roles
from cai_lightning.stages.best_of_n import REWARDS, Rewards, kl_bound
from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.shapes import Shape
from cai_lightning.text.records import Answer, Prompt, read_rows, write_rows

MODEL = Path(microworld.__file__).parent / "weights" / "small"
SAMPLED: dict[str, Any] = {
    "temperature": 1.0,
    "max_new_tokens": 24,
    "stop": ["\n\nHuman:"],
    "chunk": 2,
    "batch_size": 8,
    "dtype": "float32",
    "route": "packed",
    "seed": 0,
}
SCORED: dict[str, Any] = {"score_rows": 4, "reward_dtype": "float32", "reward_precision": "32-true"}
FILES = ("rows.jsonl", REWARDS, "counts.json")


@pytest.fixture
def rows() -> list[Prompt]:
    return red_team(split="tune", count=5, seed=0)


def chosen(out: Path, prompts: list[Prompt], *, n: int, judge: Path = MODEL, **changes: Any) -> dict[str, Answer]:
    given = out.with_name(f"{out.name}-prompts")
    if not given.exists():
        given.mkdir()
        write_rows(given, prompts)
    out.mkdir(exist_ok=True)
    shared = {**SAMPLED, **SCORED, **changes}
    best_of_n.run(out, player="best_of_n", policy=MODEL, reward_model=judge, prompts=[given], n=n, **shared)
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    return {row.id: row for row in read_rows(out, Answer)}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], float]], dict[str, list[str]]]:
    """Puts a function of the reply in the reward model's place; gives the replies that it sees, by last human turn."""

    def judge(worth: Callable[[str], float]) -> dict[str, list[str]]:
        seen: dict[str, list[str]] = {}

        def score(dialogues: list[Any], replies: list[str]) -> list[float]:
            for dialogue, reply in zip(dialogues, replies, strict=True):
                seen.setdefault(dialogue[-1].content, []).append(reply)
            return [worth(reply) for reply in replies]

        monkeypatch.setattr(roles, "load_judge", lambda *_, **__: ())
        monkeypatch.setattr(roles, "scorer", lambda *_, **__: score)
        return seen

    return judge


def test_the_reply_with_the_highest_reward_is_the_answer(tmp_path: Path, rows: list[Prompt], judged: Any) -> None:
    seen = judged(len)
    found = chosen(tmp_path / "long", rows, n=4)
    rewards = {row.id: row for row in read_rows(tmp_path / "long", Rewards, REWARDS)}
    assert list(found) == list(rewards) == [row.id for row in rows]
    for row in rows:
        lengths = [len(reply) for reply in seen[row.dialogue[-1].content]]
        assert len(lengths) == 4 and len(found[row.id].text) == max(lengths) == rewards[row.id].chosen
        assert rewards[row.id].mean == pytest.approx(sum(lengths) / 4)
    counts = json.loads((tmp_path / "long" / "counts.json").read_text())
    assert counts["rewards"]["chosen"] == pytest.approx(sum(row.chosen for row in rewards.values()) / 5)
    assert (counts["rows"], counts["n"]) == (5, 4) and counts["rewards"]["mean"] < counts["rewards"]["chosen"]


def test_of_equals_the_first_is_taken_and_more_samples_leave_it_alone(
    tmp_path: Path, rows: list[Prompt], judged: Any
) -> None:
    judged(lambda _: 0.0)
    assert chosen(tmp_path / "one", rows, n=1) == chosen(tmp_path / "three", rows, n=3)


def test_more_samples_never_lower_the_reward(tmp_path: Path, rows: list[Prompt], judged: Any) -> None:
    """The samples of a small n are the first ones of a large n."""
    judged(lambda reply: -len(reply))
    few, many = (chosen(tmp_path / str(n), rows, n=n) for n in (2, 6))
    assert all(len(many[id].text) <= len(row.text) for id, row in few.items())
    assert any(len(many[id].text) < len(row.text) for id, row in few.items())


def test_one_greedy_sample_is_an_answer_byte_by_byte(tmp_path: Path, rows: list[Prompt], judged: Any) -> None:
    """Noise has other names here, so that samples differ; where there is none nothing else does."""
    judged(lambda _: 0.0)
    chosen(tmp_path / "best", rows, n=1, temperature=0.0)
    (tmp_path / "plain").mkdir()
    given: dict[str, Any] = {"prompts": [tmp_path / "best-prompts"], "snapshots": False, **SAMPLED, "temperature": 0.0}
    answers.run(tmp_path / "plain", player="best_of_n", policy=MODEL, **given)
    assert (tmp_path / "best" / "rows.jsonl").read_bytes() == (tmp_path / "plain" / "rows.jsonl").read_bytes()
    counts = json.loads((tmp_path / "best" / "counts.json").read_text())
    assert json.loads((tmp_path / "plain" / "counts.json").read_text()).items() <= counts.items()
    assert counts["kl_bound"] == 0.0


def test_a_choice_does_not_depend_on_the_order_of_prompts(tmp_path: Path, rows: list[Prompt], judged: Any) -> None:
    judged(len)
    forward, turned = chosen(tmp_path / "a", rows, n=3), chosen(tmp_path / "b", rows[::-1], n=3, chunk=3)
    assert forward == turned and list(forward) == list(turned)[::-1]


def test_a_killed_run_ends_with_the_bytes_of_a_whole_one(
    tmp_path: Path, rows: list[Prompt], judged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three chunks the second is not finished: two are asked for again, the first is not."""
    judged(len)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    chosen(whole, rows, n=3)
    generate, calls = CausalBackend.generate, []

    def killed(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(*given)

    with monkeypatch.context() as patch:
        patch.setattr(CausalBackend, "generate", killed)
        with pytest.raises(KeyboardInterrupt):
            chosen(out, rows, n=3)
        (first,) = (out / "samples" / "chunks").glob("*.jsonl")
        assert len(first.read_text().splitlines()) == 2
        chosen(out, rows, n=3)
    assert len(calls) == 2 + 2
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in FILES)

    def none(*_: Any) -> Any:
        raise AssertionError("sampled again")

    monkeypatch.setattr(CausalBackend, "generate", none)
    (out / "counts.json").unlink()
    (out / "samples").mkdir()  # killed while it removed them
    chosen(out, rows, n=3)
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in FILES)


def test_a_reward_model_scores_the_reply_that_is_chosen(tmp_path: Path, rows: list[Prompt]) -> None:
    judge = tmp_path / "judge"
    made, tokenizer = reward_from_causal(
        MODEL, adapter=full, marker=None, mean=True, gain=1.0, dtype="float32", head_std=0.5, seed=0
    )
    judge.mkdir()
    save_reward(made, tokenizer, judge, parent=MODEL, dtype="float32")
    found = chosen(tmp_path / "out", rows, n=4, judge=judge)
    model, tokenizer = load_reward(judge, dtype="float32")
    again = model.score_replies(tokenizer, [row.dialogue for row in rows], [found[row.id].text for row in rows], 5)
    rewards = read_rows(tmp_path / "out", Rewards, REWARDS)
    assert [row.chosen for row in rewards] == pytest.approx(again, abs=1e-4)
    assert all(row.chosen >= row.mean for row in rewards) and any(row.chosen > row.mean + 0.01 for row in rewards)


def test_a_reward_that_is_no_number_is_an_error(tmp_path: Path, rows: list[Prompt], judged: Any) -> None:
    judged(lambda _: math.nan)
    with pytest.raises(ValueError, match="reward_model: gives nan"):
        chosen(tmp_path / "out", rows, n=2)


def test_no_sample_is_an_error(tmp_path: Path, rows: list[Prompt]) -> None:
    with pytest.raises(ValueError, match="n: 0 given"):
        chosen(tmp_path / "out", rows, n=0)


def test_the_kl_bound_is_the_kl_of_many_equally_likely_replies() -> None:
    """The best of n of m ranked replies is the i-th with (i^n - (i - 1)^n) / m^n; its KL nears the bound from below."""
    assert kl_bound(1) == 0
    assert kl_bound(16) == pytest.approx(1.8351, abs=1e-4)
    for n in (2, 4, 16):
        m = 4000
        shares = [(i / m) ** n - ((i - 1) / m) ** n for i in range(1, m + 1)]
        exact = sum(share * math.log(share * m) for share in shares if share)
        assert exact < kl_bound(n) and exact == pytest.approx(kl_bound(n), abs=1e-3)


def test_a_plan_counts_samples_and_scores() -> None:
    shape = Shape(
        1e6, hidden_size=100, layers=10, heads=4, kv_heads=2, head_dim=25, intermediate_size=200, vocab_size=9
    )
    given = Estimate(10, length=100.0, prompts=10)
    model = Estimate(None, shape=shape)
    recipe = {"prompts": [given], "policy": model, "reward_model": model, "n": 4, "max_new_tokens": 20}
    made = best_of_n.estimate({**recipe, "chunk": 2, "batch_size": 64, "dtype": "float32", "reward_dtype": "bfloat16"})
    assert (made.rows, made.calls, made.tokens, made.length) == (10, 80, 9600, 120)
    # the weights of both, eight replies at once: 120 tokens of 4 kB, units of a layer at 100 tokens, logits
    assert made.memory == 4e6 + 2e6 + 8 * (120 * 4000 + 100 * 800 * 4 + 9 * 8)
