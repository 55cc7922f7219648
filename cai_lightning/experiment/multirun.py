"""The end of a multirun: one joint rating over all jobs and seeds, as one more stage, and one joint report."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.digest import Digests
from cai_lightning.experiment.errors import failed, failures
from cai_lightning.experiment.pipeline import Plan, make_plan
from cai_lightning.experiment.recipe import Edge, Fixed, edges, make_node
from cai_lightning.experiment.run import NAMES, RUN, publish, write_json
from cai_lightning.experiment.sweep import short
from cai_lightning.experiment.targets import check_node
from cai_lightning.experiment.tracking import tracked, tracking

log = logging.getLogger("cai")


class Joint(Callback):
    """Hydra callback: joins the jobs' verdicts when the last job of a multirun has ended."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Writes the joint report into the sweep's folder. Hydra would only warn of an error here."""
        with failures("joint summary"):
            join(Path(config.hydra.sweep.dir))


def join(folder: Path) -> None:
    """One joint summary of all finished jobs below a sweep's folder; says which jobs are missing."""
    jobs = sorted((p for p in folder.iterdir() if (p / ".hydra").is_dir()), key=lambda p: (len(p.name), p.name))
    done = [job for job in jobs if (job / RUN).exists()]
    for job in (job for job in jobs if job not in done):
        failed.append(job.name)
        log.error("cai: job %s did not finish, see %s; the joint summary is without it", job.name, job / "run.log")
    if not done:
        return
    facts = [json.loads((job / RUN).read_text(encoding="utf-8")) for job in done]
    first = OmegaConf.load(done[0] / "config.yaml")
    assert isinstance(first, DictConfig)
    allowed = tuple(first.runtime.allow_targets)
    slots, apart = alike(facts)
    plan = without(make_plan(first), apart, allowed)
    pool(plan, slots, facts, variants(done), allowed)
    plan = apart_in_mappings(plan, slots, facts, variants(done))
    joint_facts = _joint_facts(plan, facts)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(first), encoding="utf-8")
    write_json(folder / NAMES, plan.names())
    with tracking(first, folder, plan, kind="sweep") as tell:
        for slot in slots:
            tracked(plan, slot, tell, {})
        publish(plan, folder, joint_facts)
        write_json(folder / RUN, joint_facts)
        tell("published")
    log.info("joint summary of %d jobs: %s", len(done), folder / "report.html")


def alike(facts: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The joint slots whose recipes the jobs share but for `runs`, and those where they differ in more."""
    slots = list(facts[0]["joint"])
    apart = [slot for slot in slots if len({fact["joint"].get(slot) for fact in facts}) > 1]
    return [slot for slot in slots if slot not in apart], apart


def without(plan: Plan, apart: list[str], allowed: tuple[str, ...]) -> Plan:
    """The plan whose report has null in place of these slots. Raises UserError where the report cannot do without."""
    for slot in apart:
        log.warning("joint summary without stages.%s: it differs between the jobs in more than its runs", slot)
    report = {k: None if isinstance(v, Edge) and v.slot in apart else v for k, v in plan.report.items()}
    gone = {name: value for name, value in report.items() if value is None}
    check_node({"_target_": report["_target_"], "_partial_": True, **gone}, "report", allowed)
    return dataclasses.replace(plan, report=report)


def pool(
    plan: Plan, slots: list[str], facts: list[dict[str, Any]], variants: list[str], allowed: tuple[str, ...]
) -> None:
    """Puts joint nodes, over the runs of all jobs, in place of the first job's own."""
    for slot in slots:
        values = plan.nodes[slot].values
        values = {**values, "runs": joint_runs(values["runs"], facts, variants)}
        keys = {name: plan.nodes[name].key for name in edges(values)}
        plan.nodes[slot] = make_node(slot, values, keys, Digests(Path()), allowed)


def apart_in_mappings(plan: Plan, slots: list[str], facts: list[dict[str, Any]], variants: list[str]) -> Plan:
    """The plan whose report has, in its mappings, each job's own result where the jobs differ and none is pooled."""

    def spread(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Edge) or value.slot in slots or len({fact["keys"][value.slot] for fact in facts}) == 1:
            return {name: value}
        replicates = len({fact["replicate"] for fact in facts}) > 1
        found = {}
        for fact, variant in zip(facts, variants, strict=True):
            marks = [*([variant] if variant else []), *([f"replicate={fact['replicate']}"] if replicates else [])]
            found[f"{name} [{', '.join(marks)}]"] = _fixed(value, fact)
        return found

    report = {
        key: {k: v for name, item in value.items() for k, v in spread(name, item).items()}
        if isinstance(value, dict) and "_target_" not in value
        else value
        for key, value in plan.report.items()
    }
    return dataclasses.replace(plan, report=report)


def joint_runs(single: list[dict[str, Any]], facts: list[dict[str, Any]], variants: list[str]) -> list[dict[str, Any]]:
    """The runs of a joint stage: each job's own, with store keys in place of edges, equal ones once.

    In a mapping of players, one whose key is the same in all jobs of its replicate keeps its name;
    any other gets the job's variant added, so that a sweep compares players and not accidents.
    """
    out = []
    for fact, variant in zip(facts, variants, strict=True):
        peers = [other for other in facts if other["replicate"] == fact["replicate"]]
        for run in single:
            joint: dict[str, Any] = {}
            for name, value in run.items():
                if isinstance(value, dict):
                    joint[name] = {_named(k, v, variant, peers): _fixed(v, fact) for k, v in value.items()}
                else:
                    joint[name] = _fixed(value, fact)
            joint["replicate"] = fact["replicate"]
            if joint not in out:
                out.append(joint)
    return out


def _named(player: str, value: Any, variant: str, peers: list[dict[str, Any]]) -> str:
    shared = isinstance(value, Edge) and len({fact["keys"][value.slot] for fact in peers}) == 1
    return player if shared or not variant else f"{player} [{variant}]"


def _fixed(value: Any, fact: dict[str, Any]) -> Any:
    if not isinstance(value, Edge):
        return value
    stage, key = fact["keys"][value.slot].split("/")
    return Fixed(stage, key)


def variants(jobs: list[Path]) -> list[str]:
    """What sets each job apart, in short: the overrides that not all have, but for the replicate."""
    overrides = [[str(text) for text in OmegaConf.load(job / ".hydra" / "overrides.yaml")] for job in jobs]
    common = set.intersection(*(set(texts) for texts in overrides))
    return [
        ", ".join(short(text) for text in texts if text not in common and not text.startswith("replicate="))
        for texts in overrides
    ]


def _joint_facts(plan: Plan, facts: list[dict[str, Any]]) -> dict[str, Any]:
    stages: dict[str, dict[str, Any]] = {}
    for number, fact in enumerate(facts):
        for slot, by_seed in fact["stages"].items():
            for seed, value in by_seed.items():
                name = seed if seed not in stages.get(slot, {}) else f"{seed}/{number}"
                stages.setdefault(slot, {})[name] = value
    return {
        "experiment": " + ".join(dict.fromkeys(str(fact["experiment"]) for fact in facts)),
        "replicate": sorted({fact["replicate"] for fact in facts}),
        "stages": stages,
        "keys": plan.names(),
        "seconds": round(sum(fact["seconds"] for fact in facts), 1),
        "peak_rss_mb": max(fact["peak_rss_mb"] for fact in facts),
    }
