"""A finished run or sweep as it lies on the disk: its facts, its summary, and its results in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cai_lightning.report.publish import BESIDE

RUN, SUMMARY, CONFIG = "run.json", "summary.json", "config.yaml"
_NOT_TABLES = (*BESIDE, "counts.json")


@dataclass(frozen=True)
class Finished:
    """One of the things that a report joins. `label` is what readers call it, unlike that of any other one."""

    folder: Path
    store: Path
    label: str
    facts: Mapping[str, Any]
    summary: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def jobs(self) -> list[tuple[str, Mapping[str, str]]]:
        """Of a sweep each finished job's folder name with its results by slot; of a run its own alone."""
        found = [(path.parent.name, _read(path)["keys"]) for path in sorted(self.folder.glob(f"*/{RUN}"), key=_number)]
        return found or [("", self.facts["keys"])]

    @property
    def is_sweep(self) -> bool:
        """Whether it has jobs below it."""
        return bool(self.jobs[0][0])

    @property
    def seeds(self) -> list[Any]:
        """The replicates, of a sweep all jobs' together."""
        replicate = self.facts.get("replicate", [])
        return list(replicate) if isinstance(replicate, list) else [replicate]

    @cached_property
    def config(self) -> DictConfig:
        """The config of the run, of a sweep its first job's; references are not followed. Empty where there is none."""
        path = self.folder / CONFIG
        config = OmegaConf.load(path) if path.is_file() else OmegaConf.create()
        assert isinstance(config, DictConfig)
        return config

    def named(self, *stages: str) -> dict[str, str]:
        """Slot -> `stage/key` of the results of these kinds of stage, the joint part's before the jobs', each once."""
        found: dict[str, str] = {}
        for job, keys in [("", self.facts["keys"]), *self.jobs]:
            for slot, name in keys.items():
                if name.partition("/")[0] in stages and name not in found.values():
                    found[slot if slot not in found else f"{slot}, job {job}"] = name
        return found

    def joint(self, stage: str) -> dict[str, str]:
        """Slot -> `stage/key` of the joint part's own results of a kind."""
        return {slot: name for slot, name in self.facts["keys"].items() if name.partition("/")[0] == stage}

    def path(self, name: str) -> Path:
        """Where a result lies. Raises ValueError where it was removed."""
        path = self.store / name
        if not path.is_dir():
            raise ValueError(f"{self.folder}: {name} is no longer in {self.store}; the same `cai run` makes it again")
        return path

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a result; empty where it was removed."""
        path = self.store / name / "manifest.json"
        return _read(path) if path.is_file() else {}

    def tables(self, stage: str) -> Iterator[tuple[str, Any]]:
        """Slot and content of each table of a kind in the joint part. Raises ValueError where one is gone."""
        for slot, name in self.joint(stage).items():
            files = [file for file in sorted(self.path(name).glob("*.json")) if file.name not in _NOT_TABLES]
            if len(files) == 1:
                yield slot, _read(files[0])


def read_all(paths: list[Path], outputs: Path) -> list[Finished]:
    """The runs and sweeps in these folders, each once, in their order; results are looked up in the store beside them.

    Raises ValueError where a folder holds no finished run or sweep. `outputs` is where the store lies otherwise.
    """
    folders = list(dict.fromkeys(path.resolve() for path in paths))
    facts = [_facts(folder) for folder in folders]
    names = [str(fact["experiment"]) for fact in facts]
    labels = [name if names.count(name) == 1 else f"{name} {_stamp(f)}" for name, f in zip(names, folders, strict=True)]
    labels = [label if labels.count(label) == 1 else f"{label} #{k + 1}" for k, label in enumerate(labels)]
    return [
        Finished(folder, _store(folder, outputs), label, fact, _summary(folder))
        for folder, label, fact in zip(folders, labels, facts, strict=True)
    ]


def _facts(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name one below runs/ or sweeps/ of the outputs")
    if not (folder / RUN).is_file():
        below = [path.parent.name for path in sorted(folder.glob(f"*/{RUN}"))]
        what = (
            f"name what lies below it, such as {folder / below[-1]}" if below else "the same `cai run` goes on with it"
        )
        raise ValueError(f"{folder}: no finished run or sweep, for it has no {RUN}; {what}")
    facts = _read(folder / RUN)
    if not isinstance(facts, dict) or not {"experiment", "keys"} <= set(facts):
        raise ValueError(f"{folder / RUN}: not the facts of a run: experiment or keys is missing; run it again")
    return facts


def _summary(folder: Path) -> dict[str, Any]:
    """The run's summary.json; empty for a run whose report writes none."""
    return _read(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}


def _store(folder: Path, outputs: Path) -> Path:
    return next((up / "store" for up in folder.parents if (up / "store").is_dir()), outputs / "store")


def _stamp(folder: Path) -> str:
    """Date and time of a run's folder to the minute: `20261130-043525-116612-name` -> `20261130-0435`."""
    return folder.name[:13] if folder.name[:8].isdigit() else folder.name


def _number(path: Path) -> tuple[int, str]:
    return len(path.parent.name), path.parent.name


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
