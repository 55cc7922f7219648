"""W&B runs, opened and closed: what of Weights & Biases is named here is all of it that is used."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.report.wandb_content import axis

DONE = "done.jsonl"
OFFLINE_SECONDS = 300.0  # for W&B's own process to start and to write on a machine that is busy; no network is asked
MANIFEST = "manifest.json"
AGAIN = "-again"
_QUIET = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "finish_timeout_raises": True,
}

Say = Callable[[str, bool], None]
"""(warning, whether W&B cannot be reached): passes a warning on."""


class Runs:
    """Opens W&B runs below `place`, and keeps in `place/done.jsonl` which were finished, and whether they were sent.

    The first one that W&B does not answer for within half of `patience` seconds makes it and all later ones offline.
    """

    def __init__(self, place: Path, *, mode: str, project: str, patience: float, say: Say) -> None:
        self._place, self._mode, self._project, self._say = place, mode, project, say
        self._seconds = patience / 2
        self._answered = self._opened = False
        self._online_ids: set[str] = set()  # W&B's process may hold on to the name of a run that it could not open

    @property
    def online(self) -> bool:
        """Whether W&B has answered so far."""
        return self._mode == "online"

    def open(self, names: Mapping[str, Any], **settings: Any) -> Any:
        """A new W&B run; `names` are arguments of `wandb.init`, `settings` fields of its settings."""
        import wandb

        if self.online:
            try:
                if not self._answered:
                    ask(base_url(), self._seconds / 2)
                    self._answered = True
                self._online_ids.add(names["id"])
                return self._init(names, "online", init_timeout=self._seconds, **settings)
            except (wandb.errors.Error, OSError) as error:
                self.outage(error)
        try:
            return self._init(names, "offline", init_timeout=OFFLINE_SECONDS, **settings)
        except Exception:
            if names["id"] not in self._online_ids:
                raise
            names = {**names, "id": names["id"] + AGAIN}
            return self._init(names, "offline", init_timeout=OFFLINE_SECONDS, **settings)

    def finish(self, run: Any, *, failed: bool) -> None:
        """Ends a run; what W&B has not taken within half of the patience stays on disk."""
        sent = not run.offline
        try:
            run.finish(exit_code=int(failed))
        except TimeoutError as error:
            sent = False
            self.outage(error)
        line = {"id": run.id.removesuffix(AGAIN), "folder": Path(run.dir).parent.name, "sent": sent}
        with (self._place / DONE).open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(line)}\n")  # a line that a killed process left open stays alone

    def close(self) -> None:
        """Ends W&B's own process, if there is one: what it was given is then in its files, or sent."""
        import wandb

        if self._opened:
            wandb.teardown()

    def outage(self, error: Exception) -> None:
        """From now on W&B is not asked; the first time, that is said."""
        if self.online:
            cause = str(error).partition("\n")[0] or type(error).__name__
            self._say(f"not reachable ({cause}); logging offline, `cai sync` sends it later", True)
        self._mode = "offline"

    def _init(self, names: Mapping[str, Any], mode: Any, **settings: Any) -> Any:
        import wandb

        self._opened = True
        known = wandb.Settings.model_fields
        # without a limit `finish` returns before the run's file is whole
        wanted = {**_QUIET, "finish_timeout": self._seconds if mode == "online" else OFFLINE_SECONDS, **settings}
        return wandb.init(
            project=self._project,
            dir=str(self._place.parent),
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(**{name: value for name, value in wanted.items() if name in known}),
            **names,
        )


def base_url() -> str:
    """Where W&B is, by its environment and settings."""
    import wandb

    return str(wandb.setup().settings.base_url)


def ask(url: str, seconds: float) -> None:
    """Raises OSError where no server answers at this address within so many seconds; any answer will do.

    W&B itself would try again and again for as long as it is given.
    """
    try:
        urllib.request.urlopen(url, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # W&B may know other certificates
            raise OSError(f"{url}: {error.reason}") from error
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error


def done(place: Path) -> list[dict[str, Any]]:
    """What `Runs` has finished below a place, in order: `id`, `folder` and whether it was `sent`."""
    file = place / DONE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def is_sent(folder: Path, line: Mapping[str, Any]) -> bool:
    """Whether W&B has a run of `done`, which lies in this folder."""
    return bool(line["sent"]) or is_synced(folder)


def is_synced(folder: Path) -> bool:
    """Whether `wandb sync` has marked a W&B run as sent."""
    return any(folder.glob("*.wandb.synced"))


class Figures:
    """The figures of a fit in a W&B run, over RL samples seen where its first row has them, else optimizer steps."""

    def __init__(self, run: Any) -> None:
        self._run, self._axis, self._newest = run, "", None

    def log(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Logs rows of metrics.jsonl; one without a value of the x-axis belongs to its newest."""
        for row in rows:
            if not self._axis:
                self._axis = axis(row)
                self._run.define_metric(self._axis)
                self._run.define_metric("*", step_metric=self._axis)
            self._newest = row.get(self._axis, self._newest)
            figures = {**row, self._axis: self._newest}
            self._run.log({name: float("nan") if value is None else value for name, value in figures.items()})


def log_table(run: Any, name: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
    """Logs a table whose columns may mix texts, numbers and nothing."""
    import wandb

    run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in data], allow_mixed_types=True)})


def artifact_of(result: Path) -> Any:
    """The W&B artifact of a result of the store: its manifest, whose bytes are the result's identity."""
    import wandb

    manifest = json.loads((result / MANIFEST).read_text(encoding="utf-8"))
    about = {name: manifest[name] for name in ("stage", "key", "version")}
    found = wandb.Artifact(f"{about['stage']}-{about['key']}", type=about["stage"], metadata=about)
    found.add_file(str(result / MANIFEST), policy="immutable", skip_cache=True)
    return found


def log_result(run: Any, result: Path, *, files: bool) -> None:
    """Says that a run made a result of the store; with `files` all of its files are an artifact beside its manifest."""
    import wandb

    made = artifact_of(result)
    run.log_artifact(made)
    if files:
        whole = wandb.Artifact(f"{made.name}-files", type=f"{made.type}-files", metadata=made.metadata)
        for file in sorted(path for path in result.rglob("*") if path.is_file()):
            whole.add_file(str(file), name=str(file.relative_to(result)), policy="immutable", skip_cache=True)
        run.log_artifact(whole)


def use_results(run: Any, results: Iterable[Path]) -> None:
    """Says that a run was made from results of the store, each once; those that are gone are left out."""
    for result in dict.fromkeys(results):
        if (result / MANIFEST).exists():
            # `use_artifact` of an artifact that is not logged yet does this, then waits for the network; offline it
            # refuses. W&B takes artifacts of one name and equal bytes for one.
            run._log_artifact(artifact_of(result), is_user_created=True, use_after_commit=True)
