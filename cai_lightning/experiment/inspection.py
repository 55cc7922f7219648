"""What the looking commands print: plans, the store, one artifact, garbage, the machine."""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cai_lightning.experiment.artifact import MANIFEST, PARTIAL, environment
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.estimates import FIGURES, estimates, gib, seconds, short
from cai_lightning.experiment.pipeline import Plan, stale
from cai_lightning.experiment.run import NAMES, RUN
from cai_lightning.experiment.runtime import existing
from cai_lightning.experiment.sources import source_digest
from cai_lightning.experiment.store import Store


def print_plans(plans: list[Plan], overrides: list[list[str]], *, brief: bool) -> None:
    """Prints each job's stages in order with what they cost or would cost; what several jobs share is priced once.

    A stage's number is the one that `cai run` shows; behind the arrow stand the numbers that it is made from. GiB are
    those of a stage's largest moment, the libraries' own left out; "~" marks seconds told from an earlier run. `brief`
    leaves out what need not be built.
    """
    seen: set[str] = set()
    totals = dict.fromkeys((*FIGURES, "seconds"), 0.0)
    peak = 0.0
    for plan, job in zip(plans, overrides, strict=True):
        if len(plans) > 1:
            print(f"job: {' '.join(job)}")
        print(f"  {'':3} {'':6} {'stage':22} {'result':32} {_cells(*FIGURES, 'GiB')} {'seconds':>8}")
        costs = estimates(plan)
        times = seconds(plan, costs)
        for number, slot in enumerate(plan.nodes, start=1):
            name = plan.nodes[slot].name
            if not plan.have(slot) and name not in seen:
                figures = {figure: getattr(costs[slot], figure) for figure in FIGURES} | {"seconds": times[slot]}
                totals = {figure: total + _known(figures[figure]) for figure, total in totals.items()}
                peak = max(peak, _known(costs[slot].memory))
            mark = "have" if plan.have(slot) else "shared" if name in seen else "build"
            if mark == "build" or not brief:
                print(f"  {number:3} {mark:6} {_line(plan, slot, costs[slot], times[slot])}".rstrip())
            seen.add(name)
    missing = {plan.nodes[slot].name for plan in plans for slot in plan.nodes if not plan.have(slot)}
    print(f"{len(seen)} results: {len(seen) - len(missing)} exist, {len(missing)} to build", end="")
    known = [f"{short(total)} {name}" for name, total in totals.items() if total]
    known += [f"{gib(peak)} GiB at most"] if peak else []
    print(f": about {', '.join(known)}, where known" if known else "")


def print_search(plans: list[Plan], overrides: list[list[str]], n_trials: int | None) -> None:
    """Prints the plan of a search's first corner, and in a line what it builds and costs at each further point.

    That is what its first two corners do not share. The points themselves nobody knows beforehand.
    """
    print_plans(plans[:1], overrides[:1], brief=False)
    print(
        f"the above is one point; the search's {n_trials or ''} points are not known beforehand".replace("  ", " "),
        end="",
    )
    if len(plans) > 1:
        shared = set(plans[0].names().values())
        apart = [slot for slot, name in plans[1].names().items() if name not in shared]
        times = seconds(plans[1], estimates(plans[1]))
        spent = short(sum(_known(times[slot]) for slot in apart))
        print(f"; each further one builds {len(apart)} results anew, about {spent} seconds, where known", end="")
    print()


def _line(plan: Plan, slot: str, cost: Any, time: float) -> str:
    """A stage's name, result, figures, and what it is made from."""
    node = plan.nodes[slot]
    numbers = {name: number for number, name in enumerate(plan.nodes, start=1)}
    cells = _cells(*(short(getattr(cost, name)) for name in FIGURES), gib(cost.memory))
    spent = f"{'' if plan.have(slot) else '~'}{time:.1f}".replace("~nan", "?")
    notes = [f"<- {' '.join(str(numbers[name]) for name in node.upstream)}"] if node.upstream else []
    notes += [f"({reason})"] if (reason := stale(plan, slot)) else []
    return f"{slot:22} {node.name:32} {cells} {spent:>8} {' '.join(notes)}"


def _cells(*cells: str) -> str:
    """Rows, calls, tokens and GiB in their columns."""
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, (5, 5, 6, 5), strict=True))


def _known(figure: float | None) -> float:
    return 0 if figure is None or math.isnan(figure) else figure


def print_store(outputs: Path) -> None:
    """Prints a line an artifact: name, seconds, size."""
    store = Store(outputs / "store")
    for stage, key in store.all():
        manifest = store.manifest(stage, key) or {"files": {}}
        size = sum(fact["bytes"] for fact in manifest["files"].values())
        print(f"{stage}/{key}  {store.timing(stage, key).get('seconds', 0):8.1f} s  {size / 2**20:8.2f} MiB")
    for path in store.leftovers():
        print(f"{path.parent.name}/{path.name}  (begun, not finished)")


def print_artifact(outputs: Path, prefix: str) -> None:
    """Prints manifest and timing of one artifact, and the tree of what it came from."""
    store = Store(outputs / "store")
    stage, key = store.find(prefix)
    manifest = store.manifest(stage, key)
    assert manifest is not None
    print(json.dumps({"path": str(store.path(stage, key)), **manifest, "timing": store.timing(stage, key)}, indent=1))
    print("came from:")
    _print_upstream(store, stage, key, 1, set())


def _print_upstream(store: Store, stage: str, key: str, depth: int, seen: set[str]) -> None:
    for place, name in ((store.manifest(stage, key) or {}).get("upstream", {})).items():
        print(f"{'  ' * depth}{place}: {name}{'  (as above)' if name in seen else ''}")
        if name not in seen:
            seen.add(name)
            above_stage, above_key = name.split("/")
            _print_upstream(store, above_stage, above_key, depth + 1, seen)


def adopt(outputs: Path, prefix: str) -> None:
    """Writes into a manifest the digests of today's source and of today's upstream results."""
    store = Store(outputs / "store")
    stage, key = store.find(prefix)
    manifest = store.manifest(stage, key)
    assert manifest is not None
    manifest["code"] = source_digest(manifest["recipe"])
    for place, name in manifest["upstream"].items():
        manifest["content"][place] = store.content(*name.split("/")) or manifest["content"][place]
    path = store.path(stage, key) / MANIFEST
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(f"{stage}/{key} now counts as made by today's source")


def collect_garbage(outputs: Path, *, really: bool) -> None:
    """Lists or removes what no run or sweep folder names, those of runs under way included."""
    store = Store(outputs / "store")
    used = _used(outputs)
    every = [*(store.path(stage, key) for stage, key in store.all()), *store.leftovers()]
    doomed = [path for path in every if f"{path.parent.name}/{path.name.removesuffix(PARTIAL)}" not in used]
    gone = [path for path in doomed if (store.remove(path) if really else not store.busy(path))]
    for path in gone:
        print(f"{'removed' if really else 'would remove'} {path}")
    if not gone:
        print("nothing to remove")
    else:
        print(f"{len(gone)} folders{'' if really else '; `cai gc --yes` removes them'}")


def _used(outputs: Path) -> set[str]:
    files = [file for kind in ("runs", "sweeps") for name in (RUN, NAMES) for file in (outputs / kind).rglob(name)]
    facts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {name for fact in facts for name in fact.get("keys", fact).values() if isinstance(name, str)}


def environment_facts(outputs: Path) -> dict[str, Any]:
    """Versions, machine, and whether the file system of `outputs` honours locks between processes."""
    return {
        **environment(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "outputs": str(outputs.absolute()),
        "locks": _locks_work(outputs),
        "free_gib": round(shutil.disk_usage(existing(outputs)).free / 2**30, 1),
    }


def _locks_work(outputs: Path) -> bool:
    """Two open files on one name must exclude each other; `flock` belongs to the open file, not to the process."""
    try:
        with tempfile.NamedTemporaryFile(dir=existing(outputs)) as one, open(one.name, "w") as two:
            fcntl.flock(one, fcntl.LOCK_EX)
            try:
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError as error:
        raise UserError(f"runtime.outputs: cannot write below {outputs}: {error.strerror}") from None
    return False
