"""A player without training: of n samples a prompt the one that a reward model likes best."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai_lightning.stages import memory
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AnswerRows, CausalLM, PromptRows, RewardModel
from cai_lightning.text.records import ROWS, Answer, Prompt, read_rows, write_rows

if TYPE_CHECKING:
    from cai_lightning.learning.rollouts import Scorer

REWARDS = "rewards.jsonl"
_ANSWERS = "answers.jsonl"


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """The reward of the reply that was chosen for a prompt, and the mean reward of all that were sampled for it."""

    id: str
    chosen: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class _Chosen(Answer):
    chosen: float
    mean: float


def run(
    out: Path,
    *,
    player: str,
    policy: CausalLM,
    reward_model: RewardModel,
    prompts: list[PromptRows],
    n: int,
    temperature: float,
    max_new_tokens: int,
    stop: list[str],
    chunk: int,
    batch_size: int,
    score_rows: int,
    dtype: str,
    reward_dtype: str,
    reward_precision: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> AnswerRows:
    """Answer rows: for each prompt the best of `n` samples by the reward model, the first of equals.

    `rewards.jsonl` has the reward of the chosen reply and the mean over all n, prompt by prompt; `counts.json` their
    means over prompts, n, and `kl_bound` in nats a reply (`kl_bound`), beside cut prompts and how chosen replies ended.
    `reward_dtype` and `reward_precision` are the reward model's. Source: Stiennon et al. 2020, section 4.3.
    """
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.roles import load_judge, scorer
    from cai_lightning.stages.sampling import load_backend, sampled_counts
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Sampling
    from cai_lightning.text.chunks import in_chunks, join

    if n < 1:
        raise ValueError(f"n: {n} given, but at least 1 sample a prompt is wanted")
    rows = [prompt for folder in prompts for prompt in read_rows(folder, Prompt)]
    samples = out / "samples"
    if not (out / ROWS).exists():
        sampling = Sampling(temperature, max_new_tokens, tuple(stop), seed)
        backend = load_backend(policy, dtype=dtype, batch_size=batch_size, route=route)
        score = scorer(*load_judge(reward_model, dtype=reward_dtype), precision=reward_precision, rows=score_rows)
        samples.mkdir(exist_ok=True)
        with progress(len(rows), "prompts") as advance:
            work = _choosing(backend, score, sampling, player=player, policy=policy, n=n)
            in_chunks(samples, rows, size=chunk, work=work, advance=advance)
        chosen = read_rows(samples, _Chosen)
        write_rows(out, [Rewards(id=row.id, chosen=row.chosen, mean=row.mean) for row in chosen], REWARDS)
        write_rows(samples, [_answer(row) for row in chosen], _ANSWERS)
        join(out, [samples / _ANSWERS])
    shutil.rmtree(samples, ignore_errors=True)
    rewards = read_rows(out, Rewards, REWARDS)
    means = {name: sum(getattr(row, name) for row in rewards) / len(rewards) for name in ("chosen", "mean")}
    found = {"n": n, "kl_bound": kl_bound(n), "rewards": means}
    write_counts(out, {**sampled_counts(read_rows(out, Answer)), **found})
    return out


def kl_bound(n: int) -> float:
    """The KL in nats a reply from best-of-n to the policy at most: exact where no reply is drawn twice.

    Source: Stiennon et al. 2020, appendix G.3; Beirami et al. 2024, theorem 1, that it bounds the KL from above.
    """
    return math.log(n) - (n - 1) / n


def _choosing(
    backend: Any, score: Scorer, sampling: Any, *, player: str, policy: Path, n: int
) -> Callable[[Sequence[Prompt]], Iterator[_Chosen]]:
    """What samples n replies to each prompt of a chunk and gives the best of each."""
    from cai_lightning.stages.sampling import provenance
    from cai_lightning.text.backends import Request

    def work(some: Sequence[Prompt]) -> Iterator[_Chosen]:
        # all in one call: a prompt is read once for its n replies
        asked = [Request(f"{prompt.id}/answer/{number}", prompt.dialogue) for prompt in some for number in range(n)]
        drawn = backend.generate(asked, sampling)
        rewards = score([prompt.dialogue for prompt in some for _ in range(n)], [done.text for done in drawn])
        for place, prompt in enumerate(some):
            mine = rewards[place * n : (place + 1) * n]
            _check(prompt, mine)
            best = mine.index(max(mine))
            origin = provenance(drawn[place * n + best], sampling, policy, cut=prompt.dialogue in backend.cut)
            who: dict[str, Any] = {"id": prompt.id, "player": player, "sequences": None, "prompt": prompt, **origin}
            yield _Chosen(**who, chosen=mine[best], mean=sum(mine) / n)

    return work


def _check(prompt: Prompt, rewards: Sequence[float]) -> None:
    """Raises ValueError where a reward is no finite number: no comparison would choose it, or nothing else."""
    for reward in rewards:
        if not math.isfinite(reward):
            last = prompt.dialogue[-1].content
            raise ValueError(f"reward_model: gives {reward} to a reply to {last!r}; train it anew")


def _answer(row: _Chosen) -> Answer:
    return Answer(**{field.name: getattr(row, field.name) for field in dataclasses.fields(Answer)})


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """n samples a prompt, each scored; one row a prompt."""
    prompts, n = sum(given.rows for given in recipe["prompts"]), recipe["n"]
    asked, new = max(given.length for given in recipe["prompts"]), recipe["max_new_tokens"]
    policy, judge = recipe["policy"].shape, recipe["reward_model"].shape
    together = min(recipe["batch_size"], n * min(recipe["chunk"], prompts))
    needed = memory.sampling(policy, recipe["dtype"], rows=together, prompt=asked, new=new)
    needed += memory.weights(judge, recipe["reward_dtype"])
    calls = 2 * n * prompts
    return Estimate(prompts, calls, calls * (asked + new), asked + new, prompts, memory=needed, shape=policy)
