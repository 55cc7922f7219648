"""The door by which Hydra finds our launcher and our sweeper: it takes plugins from the package `hydra_plugins` alone.

Every Hydra program in the same environment imports this file, so what it names is loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class Processes(Launcher):
    """Hydra launcher of jobs in processes of their own: cai_lightning.experiment.processes."""

    def __init__(self, **settings: Any) -> None:
        from cai_lightning.experiment.processes import Processes as Behind

        self.behind = Behind(**settings)

    def setup(self, **context: Any) -> None:
        """Takes over the config of the sweep."""
        self.behind.setup(**context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs."""
        return self.behind.launch(job_overrides, initial_job_idx)


class Search(Sweeper):
    """Hydra sweeper that chooses points as it goes: cai_lightning.experiment.search."""

    def __init__(self, **settings: Any) -> None:
        from cai_lightning.experiment.search import Search as Behind

        self.behind = Behind(**settings)

    def setup(self, **context: Any) -> None:
        """Takes over the config of the sweep."""
        self.behind.setup(**context)

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the search."""
        return self.behind.sweep(arguments)
