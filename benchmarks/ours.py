"""The package's side: `python -m benchmarks.ours TASK work=FOLDER key=value ...`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import asking, files
from benchmarks.measure import Task, forward_flops, main, one_thread, seconds
from benchmarks.stages import PRECISIONS, Watch, scratch, setting, stage

TOGETHER = 8  # rows that a batch has on average
PLAN = "length_buckets"


def sft(work: Path, *, size: str, rows: int, precision: str, plan: str = PLAN) -> dict[str, Any]:
    """Supervised finetuning on the chosen replies."""
    pairs = files.pairs(work, size, rows)
    lengths = [len(prompt) + len(chosen) for prompt, chosen, _ in (pair.ids for pair in pairs)]
    watch = Watch()
    with scratch() as out:
        upstream = {
            "base": files.model(work, size),
            "revisions": write(out / "revisions", []),
            "helpful_responses": write(out / "responses", [response(pair) for pair in pairs]),
        }
        stage("sft", learning("sft", precision, plan, budget(lengths, plan)), upstream, out, watch.around)()
    found = learned(watch, files.model(work, size), passes=3)
    found["work"]["targets"] = sum(len(batch.targets) for batch in watch.batches)
    return {**found, "seconds": watch.seconds, "first_step": watch.first_step}


def reward_model(work: Path, *, size: str, rows: int, precision: str, plan: str = PLAN) -> dict[str, Any]:
    """A reward model on the pairs."""
    pairs = files.pairs(work, size, rows)
    watch = Watch()
    with scratch() as out:
        upstream = {"base": files.model(work, size), "human_labels": write(out / "labels", [p.label for p in pairs])}
        options = learning("reward_model", precision, plan, budget(pair_lengths(pairs, "reward_model"), plan))
        stage("reward_model", options, upstream, out, watch.around)()
    return {**learned(watch, files.model(work, size), passes=3), "seconds": watch.seconds}


def dpo(
    work: Path,
    *,
    size: str,
    rows: int,
    precision: str,
    plan: str = PLAN,
    adapter: str = "full",
    shared: bool = True,
    live: bool = False,
    epochs: int = 1,
) -> dict[str, Any]:
    """DPO and the reference before it: the seconds of both; of several `epochs` those of the last alone.

    A `live` reference is made batch by batch, within DPO. Unless `shared`, a pair's prompt is read for either reply.
    """
    pairs = files.pairs(work, size, rows)
    apart = [] if shared else ["stages.dpo.data.share=0"]
    options = learning("dpo", precision, plan, budget(pair_lengths(pairs, "dpo", apart), plan))
    options += [*apart, f"adapter@stages.dpo.adapter={adapter}", f"stages.dpo.fit.epochs={epochs}"]
    watch = Watch()
    with scratch() as out:
        labels = write(out / "labels", [pair.label for pair in pairs])
        upstream = {"sft": files.model(work, size), "human_labels": labels}
        reference = 0.0
        if live:
            options += ["stages.dpo.reference=null"]
        else:
            first = {**upstream, "human_labels": write(out / "first", [pairs[0].label])}
            stage("reference", options, first, out / "warm")()  # what it imports is not to count
            reference, upstream["reference"] = seconds(stage("reference", options, upstream, out))
        stage("dpo", options, upstream, out, watch.around)()
    spent = watch.epochs[-1] if epochs > 1 else watch.seconds + reference
    watch.batches = watch.batches[-(len(watch.batches) // epochs) :]
    found = learned(watch, files.model(work, size), passes=4)
    found["work"]["targets"] = sum(map(branch_tokens, watch.batches))
    return {**found, "seconds": spent, "reference": reference}


def ppo(work: Path, *, size: str, rows: int, precision: str, new_tokens: int) -> dict[str, Any]:
    """PPO with a reward model: four replies a prompt, eight a step, one pass over each; the share of generation."""
    watch, spent = Watch(), list[float]()
    options = [
        f"data.reply_tokens={new_tokens}",
        f"stages.ppo.fit.precision={PRECISIONS[precision]}",
        f"stages.ppo.iterations={rows // 8}",
        *(f"stages.ppo.{name}=8" for name in ("rollouts", "minibatch", "sample_rows", "forward_rows")),
        "stages.ppo.samples=4",
        "stages.ppo.ppo_epochs=1",
        "stages.ppo.snapshots=[]",
        "stages.ppo.kl.kl_coef=0.05",
        "stages.ppo.optimizer.lr=1.0e-6",
    ]
    with scratch() as out, timed_sampling(spent):
        asked = [pair.label["prompt"] for pair, _ in files.replies(work, size, rows // 4)]
        upstream = {
            "sft": files.model(work, size),
            "reward_model": files.reward_model(work, size),
            "rl_prompts": write(out / "prompts", asked),
        }
        stage("ppo", options, upstream, out, watch.around)()
    new = sum(map(branch_tokens, watch.batches))
    found = {"rows": watch.rows, "precision": watch.precision, "new_tokens_at_most": rows * new_tokens}
    return {"seconds": watch.seconds, "work": found, "new_tokens": new, "sampling_share": sum(spent) / watch.seconds}


def learning(slot: str, precision: str, plan: str, tokens: int) -> list[str]:
    """The overrides of a stage that learns in batches of so many tokens."""
    return [
        f"stages.{slot}.fit.precision={PRECISIONS[precision]}",
        f"stages.{slot}.max_tokens={files.MAX_TOKENS}",
        f"stages.{slot}.fit.epochs=1",
        f"stages.{slot}.optimizer.lr=1.0e-6",
        f"plan@stages.{slot}.data.plan={plan}",
        f"stages.{slot}.data.batch_tokens={tokens}",
    ]


def budget(lengths: Sequence[int], plan: str) -> int:
    """The least tokens a batch that divide rows into batches of `TOGETHER` rows on average."""
    from cai_lightning.data.batching import best_fit, length_buckets

    def batches(tokens: int) -> int:
        if plan == "best_fit":
            return len(best_fit(lengths, batch_tokens=tokens, seed=0, epoch=0))
        return len(length_buckets(lengths, batch_tokens=tokens, multiple=16, seed=0, epoch=0))

    low, high = max(lengths), sum(lengths) + 16 * len(lengths)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if batches(middle) > -(-len(lengths) // TOGETHER) else (low, middle)
    return low


def learned(watch: Watch, model: Path, *, passes: int) -> dict[str, Any]:
    """What a fit worked on, and the FLOPs of so many passes over every text apart, shared or not."""
    lengths = watch.lengths
    did = {"rows": watch.rows, "tokens": sum(lengths), "precision": watch.precision}
    flops = passes * forward_flops(model, lengths)
    return {"work": did, "flops": flops, "read": watch.read, "batches": len(watch.batches)}


def pair_lengths(pairs: Sequence[files.Pair], slot: str, overrides: Sequence[str] = ()) -> list[int]:
    """The tokens that a stage reads of each pair: a prompt once where it is long enough to be shared, else twice."""
    least = setting(f"stages.{slot}.data.share", overrides)
    twice = [not 0 < least <= len(pair.ids[0]) for pair in pairs]
    return [sum(map(len, pair.ids)) + len(pair.ids[0]) * more for pair, more in zip(pairs, twice, strict=True)]


def branch_tokens(batch: Any) -> int:
    """The tokens of a batch's replies."""
    return int(batch.packed.branches.diff().sum())


def response(pair: files.Pair) -> dict[str, Any]:
    """The chosen reply as a sampling stage would have written it."""
    prompt = pair.label["prompt"]
    sampled = {"model": "", "temperature": 1.0, "seed": 0, "prompt_tokens": 0, "tokens": 0, "finish": "stop"}
    return {"id": pair.label["id"], "prompt": prompt, "text": pair.label["a"], **sampled}


def write(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A folder of rows, as stages pass them on."""
    folder.mkdir()
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


@contextmanager
def timed_sampling(spent: list[float]) -> Iterator[None]:
    """Inside, the seconds that PPO samples for go into a list."""
    from cai_lightning.learning import rollouts

    drawer = vars(rollouts)["drawer"]

    def timed(*given: Any) -> Callable[..., Any]:
        def draw(*arguments: Any, **settings: Any) -> Any:
            took, found = seconds(lambda: drawer(*given)(*arguments, **settings))
            spent.append(took)
            return found

        return draw

    with mock.patch.object(rollouts, "drawer", timed):
        yield


TASKS: dict[str, Task] = {"sft": sft, "reward_model": reward_model, "dpo": dpo, "ppo": ppo, **asking.TASKS}

if __name__ == "__main__":
    one_thread()
    main(TASKS)
