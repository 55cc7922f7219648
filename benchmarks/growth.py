"""Tasks of the package alone: how costs grow, what it costs to start, and the same steps without a trainer."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.measure import Task, main, one_thread, peak_rss_mb
from benchmarks.ours import PLAN, budget, learned, learning, pair_lengths, response, write
from benchmarks.stages import COMMON, NAMES, Watch, scratch, stage

DIFFERENT = 1000  # pairs that data of many rows repeat, with a number behind each reply
TOKENS = 2048  # of a batch
WARM = 3  # steps that are not counted
STEPS = 40
BAND = (150, 250)  # tokens of rows of about one length
JOB = [
    "model=local",
    "report=weights",
    "report.model=${stages.dpo}",
    "stages.dpo.policy=${stages.base}",
    "stages.reference.policy=${stages.base}",
    "stages.dpo.max_tokens=1024",
]


def prepare(work: Path, *, size: str, count: int) -> dict[str, Any]:
    """What the SFT stage does before its fit, for `count` rows beyond what it does for eight: seconds, megabytes."""
    begun: list[tuple[float, float]] = []

    def nothing(fit: Any) -> Any:
        return partial(lambda *_, **__: begun.append((time.process_time(), peak_rss_mb())), **fit.keywords)

    spent, grown = [], []
    for rows in (8, 8, count):  # what the first imports is not to count
        with scratch() as out:
            upstream = _upstream(work, size, _repeated(work, size, rows), out)
            run = stage("sft", _options("fp32", TOKENS), upstream, out, nothing)
            memory, start = peak_rss_mb(), time.process_time()
            run()
        spent.append(begun[-1][0] - start)
        grown.append(begun[-1][1] - memory)
    return {"seconds": spent[2] - spent[1], "growth_mb": grown[2]}


def steps(work: Path, *, size: str, precision: str, count: int) -> dict[str, Any]:
    """The milliseconds a token of SFT steps on data of `count` rows."""
    return _steps(work, size, _repeated(work, size, count), _options(precision, TOKENS))


def documents(work: Path, *, size: str, precision: str, together: int, accumulate: int = 1) -> dict[str, Any]:
    """The milliseconds a token of SFT steps on batches of about `together` rows, all of about one length."""
    rows = [pair for pair in files.pairs(work, size, 1900) if BAND[0] <= len(pair.ids[0]) + len(pair.ids[1]) <= BAND[1]]
    options = [*_options(precision, together * BAND[1]), f"stages.sft.fit.accumulate={accumulate}"]
    return _steps(work, size, [response(pair) for pair in rows], options)


def reference(work: Path, *, size: str, count: int, epochs: int) -> dict[str, Any]:
    """How often the model reads each pair beyond once an epoch of DPO: what its reference costs."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    read = 0

    def counted(module: Any, given: Any) -> None:
        nonlocal read
        if type(module).__name__ == "Embedding":
            read += given[0].numel()

    pairs = files.pairs(work, size, count)
    tokens = budget(pair_lengths(pairs, "dpo"), PLAN)
    options = [*learning("dpo", "fp32", PLAN, tokens), f"stages.dpo.fit.epochs={epochs}"]
    with scratch() as out:
        labels = write(out / "labels", [pair.label for pair in pairs])
        upstream = {"sft": files.model(work, size), "human_labels": labels}
        register_module_forward_pre_hook(counted)
        upstream["reference"] = stage("reference", options, upstream, out)()
        watch = Watch()
        stage("dpo", options, upstream, out, watch.around)()
    return {"reference_reads": read / (watch.read / epochs) - epochs}


def bare(work: Path, *, size: str, rows: int, precision: str) -> dict[str, Any]:
    """SFT as `ours` does it, on its batches and with its model, in a loop of a few lines in place of the trainer."""
    import torch

    from cai_lightning.learning.losses import weighted_nll
    from cai_lightning.models.logprobs import token_logprobs

    pairs = files.pairs(work, size, rows)
    watch = Watch()

    def loop(module: Any, data: Any, *, clip: float, precision: str, **_: Any) -> None:
        watch.precision = NAMES[precision]
        start = time.process_time()
        module.train()
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=True)
        for batch in data.train_dataloader():
            with torch.autocast("cpu", torch.bfloat16, enabled=watch.precision == "bf16"):
                logps = token_logprobs(module.policy, batch.packed, batch.targets, temperature=1.0)
                loss = weighted_nll(logps, batch.weights, batch.divisor)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            watch.batches.append(batch)
        watch.seconds = time.process_time() - start

    lengths = [len(pair.ids[0]) + len(pair.ids[1]) for pair in pairs]
    options = learning("sft", precision, PLAN, budget(lengths, PLAN))
    with scratch() as out:
        upstream = _upstream(work, size, [response(pair) for pair in pairs], out)
        stage("sft", options, upstream, out, lambda fit: partial(loop, **fit.keywords))()
    found = learned(watch, files.model(work, size), passes=3)
    found["work"]["targets"] = sum(len(batch.targets) for batch in watch.batches)
    return {**found, "seconds": watch.seconds}


def jobs(work: Path, *, size: str, rows: int, count: int) -> dict[str, Any]:
    """The processor seconds of `cai run -m` with so many jobs, each of which makes a DPO policy of its own."""
    names = ("prompt", "chosen", "rejected")
    with scratch() as out:
        lines = [json.dumps(dict(zip(names, pair.texts, strict=True))) for pair in files.pairs(work, size, rows)]
        (out / "preferences.jsonl").write_text("\n".join(lines), encoding="utf-8")
        given = [
            f"data.preference_file={out / 'preferences.jsonl'}",
            f"model.path={files.model(work, size)}",
            f"runtime.outputs={out}",
            f"stages.dpo.seed={','.join(map(str, range(count)))}",
        ]
        return {"seconds": _child("-m", "cai_lightning", "run", "-m", *COMMON, *JOB, *given)}


def command(work: Path, *, words: str) -> dict[str, Any]:
    """The processor seconds of a command that loads no model."""
    del work
    compose = "from cai_lightning.experiment.compose import compose_config; compose_config([])"
    return {"seconds": _child("-c", compose) if words == "compose" else _child("-m", "cai_lightning", words)}


def _child(*words: str) -> float:
    """The processor seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _steps(work: Path, size: str, rows: Iterable[dict[str, Any]], options: list[str]) -> dict[str, Any]:
    """Milliseconds a token of the steps behind the first ones."""
    watch = Watch(last=STEPS)
    with scratch() as out:
        stage("sft", options, _upstream(work, size, rows, out), out, watch.around)()
    tokens = sum(len(batch.packed.ids) for batch in watch.batches[WARM:])
    return {"token_ms": 1000 * (watch.steps[-1] - watch.steps[WARM - 1]) / tokens, "tokens": tokens}


def _options(precision: str, tokens: int) -> list[str]:
    """SFT with batches of so many tokens, nearly full."""
    return [*learning("sft", precision, "best_fit", tokens), "stages.sft.fit.epochs=100"]


def _repeated(work: Path, size: str, count: int) -> Iterator[dict[str, Any]]:
    """So many replies, the same ones again and again but for a number behind each."""
    different = [response(pair) for pair in files.pairs(work, size, min(DIFFERENT, count))]
    for number in range(count):
        row = different[number % len(different)]
        yield {**row, "id": f"{row['id']}-{number}", "text": f"{row['text']} {number // len(different)}"}


def _upstream(work: Path, size: str, rows: Iterable[dict[str, Any]], out: Path) -> dict[str, Path]:
    return {
        "base": files.model(work, size),
        "revisions": write(out / "revisions", []),
        "helpful_responses": write(out / "responses", rows),
    }


TASKS: dict[str, Task] = {
    "prepare": prepare,
    "steps": steps,
    "documents": documents,
    "reference": reference,
    "bare": bare,
    "jobs": jobs,
    "command": command,
}

if __name__ == "__main__":
    one_thread()
    main(TASKS)
