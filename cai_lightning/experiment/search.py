"""A Hydra sweeper that chooses the points of a sweep as it goes: Optuna's samplers over figures of `summary.json`.

Its jobs are those of any sweep: they run under any launcher, share what they can through the store, and are joined.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.errors import UserError, failed
from cai_lightning.experiment.run import RUN, write_json
from cai_lightning.experiment.space import Axis, axes_of
from cai_lightning.experiment.sweep import short
from cai_lightning.experiment.trials import JOB, explore, latest, opened, point

if TYPE_CHECKING:
    from optuna import Study

JOURNAL, FOUND, SUMMARY = "study.journal", "search.json", "summary.json"
log = logging.getLogger("cai")


def check_search(node: Any) -> None:
    """Raises UserError where a search could not run: Optuna is missing, or a setting is out of range."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("hydra/sweeper=search: Optuna is not installed; pip install 'cai-lightning[optuna]'")
    for key in ("n_trials", "batch"):
        if not isinstance(node[key], int) or node[key] < 1:
            raise UserError(f"hydra.sweeper.{key}: {node[key]} given, but a whole number of at least 1 is wanted")
    if not [*node.maximise, *node.minimise]:
        raise UserError("hydra.sweeper.maximise: empty, and so is minimise; name a figure of summary.json")


class Search:
    """Runs `n_trials` points, up to `batch` at once, that maximise and minimise figures of `summary.json`.

    `params` are axes in Hydra's grammar; `player` is there for the names of figures. `sampler` is the node of an Optuna
    sampler without its seed, `volume` that of a function from points on two axes, larger is better, to one number.
    """

    def __init__(
        self,
        *,
        params: Mapping[str, str] | None,
        n_trials: int,
        batch: int,
        seed: int,
        player: str,  # noqa: ARG002
        sampler: DictConfig,
        maximise: Sequence[str],
        minimise: Sequence[str],
        volume: DictConfig | None,
    ) -> None:
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]
        self.n_trials, self.batch, self.seed = n_trials, batch, seed
        self.sampler: Callable[..., Any] = instantiate(sampler)
        self.objectives = [*((name, 1) for name in maximise), *((name, -1) for name in minimise)]
        self.volume: Callable[..., Any] | None = instantiate(volume)
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes over the sweep's config and makes its launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search to its end and says what was found; also in `search.json`."""
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        fixed, axes = axes_of([*self.params, *arguments])
        study = opened(folder / JOURNAL, ["maximize" if sign > 0 else "minimize" for _, sign in self.objectives])

        def measure(points: list[tuple[int, list[str]]]) -> list[list[float] | None]:
            return self._measure(points, fixed)

        settings = {"seed": self.seed, "n_trials": self.n_trials, "batch": self.batch}
        explore(study, axes, measure, sampler=self.sampler, **settings)
        found = self.found(study, axes)
        write_json(folder / FOUND, found)
        log.info("%s", table(found))

    def _measure(self, points: list[tuple[int, list[str]]], fixed: list[str]) -> list[list[float] | None]:
        """The objectives of each point, None of one whose job failed; the launcher numbers jobs of a batch in a row."""
        assert self.launcher is not None
        first = points[0][0]
        in_a_row = [job for job, _ in points] == list(range(first, first + len(points)))
        batches = [points] if in_a_row else [[one] for one in points]
        out = []
        for batch in batches:
            jobs = [[*fixed, *overrides] for _, overrides in batch]
            for (job, overrides), done in zip(
                batch, self.launcher.launch(jobs, initial_job_idx=batch[0][0]), strict=True
            ):
                assert done.hydra_cfg is not None
                out.append(self._values(f"job {job}", overrides, Path(done.hydra_cfg.hydra.runtime.output_dir)))
        return out

    def _values(self, name: str, overrides: list[str], folder: Path) -> list[float] | None:
        name = f"{name} ({', '.join(map(short, overrides))})"
        if not (folder / RUN).exists():
            return None  # whoever ran it has said why
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        try:
            values = [figure(summary, objective) for objective, _ in self.objectives]
        except UserError as error:
            failed.append(name)
            log.error("cai: %s: %s", name, error)
            return None
        log.info("%s: %s", name, ", ".join(f"{value:.4g}" for value in values))
        return values

    def found(self, study: Study, axes: Sequence[Axis]) -> dict[str, Any]:
        """Objectives, every job's point and values, which of them nothing else beats, and their volume together."""
        best = {trial.number for trial in study.best_trials}
        tried = latest(study)
        points = [
            [value * sign for value, (_, sign) in zip(trial.values, self.objectives, strict=True)]
            for trial in tried
            if trial.values
        ]
        volume = self.volume if len(self.objectives) == 2 else None
        return {
            "objectives": {name: "maximise" if sign > 0 else "minimise" for name, sign in self.objectives},
            "jobs": [
                {
                    "job": trial.user_attrs[JOB],
                    "point": point(trial, axes),
                    "state": trial.state.name.lower(),
                    "values": trial.values or None,
                    "front": trial.number in best,
                }
                for trial in tried
            ],
            "volume": float(volume(points)) if volume and points else None,
        }


def figure(summary: Any, name: str) -> float:
    """The number at a dotted name of `summary.json`. Raises UserError where there is none."""
    value = summary
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: no number in {SUMMARY}; hydra.sweeper.maximise and minimise name what is in it")
    return float(value)


def table(found: dict[str, Any]) -> str:
    """The jobs of a search as text, a star at those that nothing else beats."""
    lines = [f"   {'job':>4}  {'  '.join(found['objectives'])}"]
    for one in found["jobs"]:
        values = [f"{value:.4g}" for value in one["values"] or []] or [one["state"]]
        cells = [f"{value:>{len(name)}}" for value, name in zip(values, found["objectives"], strict=False)]
        lines.append(
            f" {'*' if one['front'] else ' '} {one['job']:>4}  {'  '.join([*cells, *map(short, one['point'])])}"
        )
    if found["volume"] is not None:
        lines.append(f"volume of those at *: {found['volume']:.4g}")
    return "\n".join(lines)
