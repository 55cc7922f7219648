"""A search by ask and tell: Optuna proposes points, jobs measure them, and what was told is kept after every one.

A trial is one try of a job. The study is a file, so a search that was killed goes on: what was asked and not told is
measured first. Each trial has a sampler's seed of its own, or a search that goes on would ask its first points again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.experiment.space import Axis

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Measure = Callable[[list[tuple[int, list[str]]]], list[list[float] | None]]
JOB = "job"
STOPPED = "Study.stop"  # what Optuna's error names where a sampler stops a study outside of optimize()


def opened(file: Path, directions: Sequence[str]) -> Study:
    """The study kept in a journal file, made where there is none; `directions` are "maximize" or "minimize"."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    return optuna.create_study(storage=storage, study_name="search", directions=list(directions), load_if_exists=True)


def explore(
    study: Study,
    axes: Sequence[Axis],
    measure: Measure,
    *,
    sampler: Callable[..., Any],
    seed: int,
    n_trials: int,
    batch: int,
) -> None:
    """Asks for `n_trials` points in all, up to `batch` of them together, and tells what `measure` makes of each.

    `measure` gets numbers of jobs with the overrides of their points, and returns their objectives, None of one that
    failed. A point that failed in an earlier call is measured once more, under its number.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING and JOB not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)  # killed before it had a job
    for trial in [one for one in latest(study) if one.state is TrialState.RUNNING]:
        _tell(study, axes, [trial], measure)
    for trial in [one for one in latest(study) if one.state is TrialState.FAIL]:
        study.enqueue_trial(trial.params, user_attrs={JOB: trial.user_attrs[JOB]})
    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        _tell(study, axes, [_ask(study, axes, sampler, seed)], measure)
    while (left := n_trials - len(latest(study))) > 0:
        _tell(study, axes, [_ask(study, axes, sampler, seed) for _ in range(min(batch, left))], measure)


def latest(study: Study) -> list[FrozenTrial]:
    """The last try of every job, by the job's number."""
    found = {trial.user_attrs[JOB]: trial for trial in study.get_trials(deepcopy=False) if JOB in trial.user_attrs}
    return [found[job] for job in sorted(found)]


def point(trial: FrozenTrial, axes: Sequence[Axis]) -> list[str]:
    """The overrides of a trial's point."""
    return [axis.override(trial.params[axis.key]) for axis in axes]


def _ask(study: Study, axes: Sequence[Axis], sampler: Callable[..., Any], seed: int) -> FrozenTrial:
    study.sampler = sampler(seed=seed + len(study.get_trials(deepcopy=False)))
    job = len(latest(study))
    trial = study.ask({axis.key: _distribution(axis) for axis in axes})
    if JOB not in trial.user_attrs:
        trial.set_user_attr(JOB, job)
    return study.get_trials(deepcopy=False)[trial.number]


def _tell(study: Study, axes: Sequence[Axis], trials: Sequence[FrozenTrial], measure: Measure) -> None:
    from optuna.trial import TrialState

    found = measure([(trial.user_attrs[JOB], point(trial, axes)) for trial in trials])
    for trial, values in zip(trials, found, strict=True):
        try:
            if values is None:
                study.tell(trial.number, state=TrialState.FAIL)
            else:
                study.tell(trial.number, values)
        except RuntimeError as error:
            # a sampler without a point left asks optimize() to stop, which nobody called; the trial is kept anyway
            if STOPPED not in str(error):
                raise


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.choices:
        return CategoricalDistribution(axis.choices)
    if axis.step:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.log)
