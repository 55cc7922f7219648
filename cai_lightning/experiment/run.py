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

from cai_lightning.experiment.digest import json_digest
from cai_lightning.experiment.estimates import work
from cai_lightning.experiment.pipeline import Plan, make_plan, stale, with_paths
from cai_lightning.experiment.runtime import check_device, enter_session
from cai_lightning.experiment.targets import construct, locate
from cai_lightning.experiment.tracking import Tell, tracked, tracking

RUN, NAMES = "run.json", "artifacts.json"
log = logging.getLogger("cai")


def execute(config: DictConfig, folder: Path, *, again: bool) -> dict[str, Any]:
    """The facts of the run, also written to `run.json`; the report lies in `folder` afterwards.

    Unless it is to run `again`, a run that is finished in this folder stays as it is.
    """
    started = time.perf_counter()
    plan = make_plan(config)
    if not again and (facts := finished(plan, folder)):
        return facts
    (folder / RUN).unlink(missing_ok=True)
    enter_session(config)
    if not all(plan.have(slot) for slot in plan.nodes):
        check_device(str(config.runtime.device))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    write_json(folder / NAMES, plan.names())
    with tracking(config, folder, plan, kind="run") as tell:
        stages = {}
        for number, slot in enumerate(plan.nodes, start=1):
            stages[slot] = {str(config.replicate): _build(plan, slot, number, str(config.runtime.on_code_change), tell)}
        facts = _facts(config, plan, stages, time.perf_counter() - started)
        _collect_metrics(plan, folder)
        publish(plan, folder, facts)
        write_json(folder / RUN, facts)
        tell("published")
    return facts


def _facts(config: DictConfig, plan: Plan, stages: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "experiment": config.name,
        "replicate": config.replicate,
        "stages": stages,
        "keys": plan.names(),
        "joint": {slot: joint_digest(plan, slot) for slot in config.joint if slot in plan.nodes},
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def finished(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """The facts of this run where `folder` holds it to its end, with results of today's source; else None."""
    try:
        facts: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = facts["keys"] == plan.names() and all(plan.have(slot) and not stale(plan, slot) for slot in plan.nodes)
    return facts if whole else None


def joint_digest(plan: Plan, slot: str) -> str:
    """What jobs must have in common for this stage to be pooled over them: all of its recipe but `runs`."""
    return json_digest({name: value for name, value in plan.nodes[slot].recipe.items() if name != "runs"})


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole, by a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def publish(plan: Plan, folder: Path, facts: dict[str, Any]) -> None:
    """Calls the report's target and points `outputs/latest` at the folder."""
    report = with_paths(plan.report, plan)
    arguments = construct({name: value for name, value in report.items() if name != "_target_"})
    locate(report["_target_"])(folder, run=facts, **arguments)
    latest = plan.store.root.parent / "latest"
    temporary = latest.with_name(f".latest.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(folder.resolve(), latest.parent.resolve()))
    os.replace(temporary, latest)


def _build(plan: Plan, slot: str, number: int, on_code_change: str, tell: Tell) -> dict[str, Any]:
    node = plan.nodes[slot]
    os.environ["CAI_SLOT"] = slot
    if reason := stale(plan, slot):
        if on_code_change == "rebuild":
            path = plan.store.path(node.stage, node.key)
            plan.store.discard(path, still=lambda: stale(plan, slot) is not None)
        else:
            log.warning("%s: %s; `cai adopt %s`, or runtime.on_code_change=rebuild", slot, reason, node.key)
    if not plan.have(slot):
        log.info("[%d/%d] %s ...", number, len(plan.nodes), slot)
    try:
        built = tracked(plan, slot, tell, {} if plan.have(slot) else work(plan, slot))
    except Exception as error:
        error.add_note(f"stages.{slot}")
        raise
    state = "reused" if built.reused else f"{built.seconds:.1f} s"
    log.info("[%d/%d] %-18s %s  %s", number, len(plan.nodes), slot, node.name, state)
    return {"key": node.key, "seconds": built.seconds, "reused": built.reused}


def _collect_metrics(plan: Plan, folder: Path) -> None:
    """All stages' metrics in one file, each row with its slot."""
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as out:
        for slot, node in plan.nodes.items():
            source = plan.store.path(node.stage, node.key) / "metrics.jsonl"
            if source.exists():
                for line in source.read_text(encoding="utf-8").splitlines():
                    out.write(json.dumps({"stage": slot, **json.loads(line)}) + "\n")
