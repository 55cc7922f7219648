"""One run: build what is missing, then hand the artifacts and the run's facts to the report."""

from __future__ import annotations

import json
import logging
import os
import resource
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.pipeline import Plan, build, code_changed, make_plan, with_paths
from cai_lightning.experiment.targets import construct, locate

RUN = "run.json"
log = logging.getLogger("cai")


def enter_session(config: DictConfig, folder: Path) -> None:
    """Tells stages about this machine through the environment: whatever changes no number."""
    runtime = config.runtime
    os.environ.update(
        CAI_DEVICE=str(runtime.device),
        CAI_THREADS=str(runtime.threads),
        CAI_PROGRESS=str(runtime.progress),
        CAI_WANDB_MODE=str(runtime.wandb.mode),
        CAI_WANDB_PROJECT=str(runtime.wandb.project),
        CAI_WANDB_GROUP=str(runtime.wandb.group or config.name),
        CAI_WANDB_DIR=str(folder),
        OMP_NUM_THREADS=str(runtime.threads),
        HF_HUB_OFFLINE="0" if runtime.online else "1",
        TOKENIZERS_PARALLELISM="false",
    )


def execute(config: DictConfig, folder: Path) -> dict[str, Any]:
    """The facts of the run, also written to `run.json`; the report lies in `folder` afterwards."""
    started = time.perf_counter()
    plan = make_plan(config)
    enter_session(config, folder)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    stages = {}
    for number, slot in enumerate(plan.nodes, start=1):
        stages[slot] = {str(config.replicate): _build(plan, slot, number, str(config.runtime.on_code_change))}
    facts = {
        "experiment": config.name,
        "replicate": config.replicate,
        "stages": stages,
        "keys": {slot: f"{node.stage}/{node.key}" for slot, node in plan.nodes.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    write_facts(folder, facts)
    _collect_metrics(plan, folder)
    publish(plan, folder, facts, with_paths(plan.report, plan))
    return facts


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Writes `run.json`."""
    (folder / RUN).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def publish(plan: Plan, folder: Path, facts: dict[str, Any], report: dict[str, Any]) -> None:
    """Calls the report's target and points `outputs/latest` at the folder."""
    arguments = construct({name: value for name, value in report.items() if name != "_target_"})
    locate(report["_target_"])(folder, run=facts, **arguments)
    latest = plan.store.root.parent / "latest"
    temporary = latest.with_name(f".latest.{os.getpid()}")
    temporary.symlink_to(os.path.relpath(folder, latest.parent))
    os.replace(temporary, latest)


def _build(plan: Plan, slot: str, number: int, on_code_change: str) -> dict[str, Any]:
    node = plan.nodes[slot]
    os.environ["CAI_SLOT"] = slot
    if code_changed(plan, slot):
        if on_code_change == "rebuild":
            plan.store.discard(node.stage, node.key)
        else:
            log.warning(
                "%s: made by earlier source text; `cai adopt %s`, or runtime.on_code_change=rebuild", slot, node.key
            )
    if not plan.have(slot):
        log.info("[%d/%d] %s ...", number, len(plan.nodes), slot)
    built = build(plan, slot)
    state = "reused" if built.reused else f"{built.seconds:.1f} s"
    log.info("[%d/%d] %-18s %s/%s  %s", number, len(plan.nodes), slot, node.stage, node.key, state)
    return {"key": node.key, "seconds": built.seconds, "reused": built.reused}


def _collect_metrics(plan: Plan, folder: Path) -> None:
    """All stages' metrics in one file, each row with its slot."""
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as out:
        for slot, node in plan.nodes.items():
            source = plan.store.path(node.stage, node.key) / "metrics.jsonl"
            if source.exists():
                for line in source.read_text(encoding="utf-8").splitlines():
                    out.write(json.dumps({"stage": slot, **json.loads(line)}) + "\n")
