"""What the looking commands print: plans, the store, one artifact, garbage, the machine."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.pipeline import Plan, code_changed, source_digest
from cai_lightning.experiment.run import RUN
from cai_lightning.experiment.store import MANIFEST, Store, environment


def print_plans(plans: list[Plan], overrides: list[list[str]]) -> None:
    """Prints each job's stages in order, `have` or `build`; a stage that several jobs share is priced once."""
    seen: set[str] = set()
    for plan, job in zip(plans, overrides, strict=True):
        if len(plans) > 1:
            print(f"job: {' '.join(job)}")
        for slot, node in plan.nodes.items():
            mark = "have " if plan.have(slot) else "shared" if node.key in seen else "build"
            note = "  (source changed since)" if code_changed(plan, slot) else ""
            upstream = f"  <- {', '.join(node.upstream)}" if node.upstream else ""
            print(f"  {mark:6} {slot:20} {node.stage}/{node.key}  {_price(plan, slot)}{upstream}{note}")
            seen.add(node.key)
    missing = {plan.nodes[slot].key for plan in plans for slot in plan.nodes if not plan.have(slot)}
    total = {node.key for plan in plans for node in plan.nodes.values()}
    print(f"{len(total)} results: {len(total) - len(missing)} exist, {len(missing)} to build")


def _price(plan: Plan, slot: str) -> str:
    """Seconds of an existing result, or of the newest one that the same stage function made."""
    node = plan.nodes[slot]
    if plan.have(slot):
        return f"{plan.store.timing(node.stage, node.key).get('seconds', 0):8.1f} s"
    times = [plan.store.timing(stage, key).get("seconds") for stage, key in plan.store.all() if stage == node.stage]
    known = [seconds for seconds in times if seconds is not None]
    return f"~{max(known):7.1f} s" if known else "        ? "


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
    _print_upstream(store, stage, key, 1)


def _print_upstream(store: Store, stage: str, key: str, depth: int) -> None:
    for slot, name in ((store.manifest(stage, key) or {}).get("upstream", {})).items():
        print(f"{'  ' * depth}{slot}: {name}")
        above_stage, above_key = name.split("/")
        _print_upstream(store, above_stage, above_key, depth + 1)


def adopt(outputs: Path, prefix: str) -> None:
    """Writes today's source digest into a manifest."""
    store = Store(outputs / "store")
    stage, key = store.find(prefix)
    manifest = store.manifest(stage, key)
    assert manifest is not None
    manifest["code"] = source_digest(manifest["target"])
    path = store.path(stage, key) / MANIFEST
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    print(f"{stage}/{key} now counts as made by today's source")


def collect_garbage(outputs: Path, *, really: bool) -> None:
    """Lists or removes artifacts that no run or sweep folder names, and begun ones that no process holds."""
    store = Store(outputs / "store")
    used = set()
    for file in [*outputs.glob(f"runs/*/{RUN}"), *outputs.glob(f"sweeps/*/*/{RUN}"), *outputs.glob(f"sweeps/*/{RUN}")]:
        used |= set(json.loads(file.read_text()).get("keys", {}).values())
    doomed = [store.path(stage, key) for stage, key in store.all() if f"{stage}/{key}" not in used]
    doomed += [path for path in store.leftovers() if not _held(store, path)]
    for path in doomed:
        print(f"{'removed' if really else 'would remove'} {path}")
        if really:
            shutil.rmtree(path)
    print(f"{len(doomed)} folders{'' if really else '; `cai gc --yes` removes them'}")


def _held(store: Store, partial: Path) -> bool:
    """Whether a living process holds the lock of a begun artifact."""
    lock = store.root / ".locks" / f"{partial.parent.name}-{partial.name.removesuffix('.partial')}"
    if not lock.exists():
        return False
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def environment_facts(outputs: Path) -> dict[str, Any]:
    """Versions, machine, and whether the file system of `outputs` honours locks between processes."""
    return {
        **environment(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "outputs": str(outputs.absolute()),
        "locks": _locks_work(outputs),
        "free_gib": round(shutil.disk_usage(_existing(outputs)).free / 2**30, 1),
    }


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.absolute().parent
    return path


def _locks_work(outputs: Path) -> bool:
    """Two open files on one name must exclude each other; `flock` belongs to the open file, not to the process."""
    try:
        with tempfile.NamedTemporaryFile(dir=_existing(outputs)) as one, open(one.name, "w") as two:
            fcntl.flock(one, fcntl.LOCK_EX)
            try:
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError as error:
        raise UserError(f"runtime.outputs: cannot write below {outputs}: {error.strerror}") from None
    return False
