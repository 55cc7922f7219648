"""The process that logs a run to Weights & Biases while it goes on, from the events in the run's folder.

    python -m cai_lightning.report.tracker FOLDER       started by a run, not by hand

It reads files and writes to W&B. It ends after the last event, and when its stdin does: with the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import select
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.report import wandb_content as content
from cai_lightning.report.tail import Tail
from cai_lightning.report.wandb_runs import Figures, Runs, Say, done, log_result, log_table, use_results

PLACE, EVENTS = "wandb", "events.jsonl"
POLL_SECONDS = 1.0


class Tracker:
    """Logs what events tell of a run in `folder`; W&B runs whose names are `known` were logged before."""

    def __init__(self, folder: Path, head: Mapping[str, Any], runs: Runs, known: frozenset[str]) -> None:
        self._folder, self._head, self._runs, self._known = folder, head, runs, known
        self._event: dict[str, Any] = {}  # of the stage that is being made
        self._run: Any = None
        self._figures = Figures(None)
        self._rows = Tail(Path())

    def hear(self, event: Mapping[str, Any]) -> None:
        """Does what an event asks for; where W&B breaks off over it, all over again and offline."""
        try:
            self._hear(event)
        except Exception as error:
            if not self._runs.online:
                raise
            self._runs.outage(error)
            begun, self._run = self._event, None
            if begun and event["event"] != "begun":
                self._hear(begun)
            self._hear(event)

    def _hear(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "begun":
            names = content.stage_names(self._head, event)
            if names["id"] not in self._known:
                self._event = dict(event)
                self._run = self._runs.open(names)
                self._figures = Figures(self._run)
                self._rows = Tail(Path(event["folder"]) / content.METRICS)
                use_results(self._run, [self._store / name for name in event["upstream"].values()])
        elif event["event"] == "built" and self._run is not None:
            self._built(self._store / self._event["stage"] / self._event["key"])
        elif event["event"] in ("failed", "end") and self._run is not None:
            self._look()
            self._finish(failed=True)
        elif event["event"] == "nothing":
            self._look()
        elif event["event"] == "published":
            self._published()

    def _look(self) -> None:
        if self._run is not None:
            self._figures.log(json.loads(line) for line in self._rows.lines())

    @property
    def _store(self) -> Path:
        return Path(self._head["store"])

    def _built(self, result: Path) -> None:
        self._rows.move(result / content.METRICS)
        self._look()
        for name, (columns, data) in content.texts(result, int(self._head["samples"])).items():
            log_table(self._run, name, columns, data)
        if (timing := result / "timing.json").exists():  # else the result was removed since
            seconds = json.loads(timing.read_text(encoding="utf-8"))
            self._run.summary.update({f"timing/{name}": value for name, value in seconds.items()})
            log_result(self._run, result, files=self._head["upload"] == "files")
        self._finish(failed=False)

    def _finish(self, *, failed: bool) -> None:
        run, self._run, self._event = self._run, None, {}
        self._runs.finish(run, failed=failed)

    def _published(self) -> None:
        from cai_lightning.report.wandb_summary import log_summary

        names = content.summary_names(self._head, self._folder)
        if names["id"] not in self._known:
            run = self._runs.open(names, **content.agent_settings(self._head))
            use_results(run, content.ends(self._folder, self._store))
            log_summary(run, self._folder)
            self._runs.finish(run, failed=False)


def follow(folder: Path, say: Say, waits: Iterator[bool], *, offline: bool = False) -> None:
    """Logs a run from its events; `waits` pauses, and says whether more may come.

    What was logged before is not logged again. A stage that was under way when no more came has failed. With `offline`
    the network is not asked, whatever the run was told.
    """
    place = folder / PLACE
    events, tracker = Tail(place / EVENTS), None
    known = frozenset(line["id"] for line in done(place))
    for more in waits:
        for event in map(json.loads, events.lines()):
            if event["event"] == "start":
                mode = "offline" if offline else event["mode"]
                runs = Runs(place, mode=mode, project=event["project"], patience=event["patience"], say=say)
                tracker = Tracker(folder, event, runs, known)
            elif tracker is not None:
                tracker.hear(event)
            more = more and event["event"] != "end"
        if not more:
            break
        if tracker is not None:
            tracker.hear({"event": "nothing"})
    if tracker is not None:
        tracker.hear({"event": "end"})
        runs.close()


def wanted(folder: Path) -> set[str]:
    """The names of all W&B runs that a run's events ask for."""
    names, head = set(), {}
    for event in map(json.loads, Tail(folder / PLACE / EVENTS).lines()):
        if event["event"] == "start":
            head = event
        elif event["event"] == "begun":
            names.add(content.run_id(head, event["slot"], event["key"]))
        elif event["event"] == "published":
            names.add(content.summary_names(head, folder)["id"])
    return names


def _with_parent() -> Iterator[bool]:
    """Whether the run still goes on, at once when it ends and else after a while."""
    while True:
        yield (more := not select.select([sys.stdin], [], [], POLL_SECONDS)[0])
        if not more:
            return


def _say(warning: str, outage: bool) -> None:
    _tell({"warning": warning, "outage": outage})


def _tell(said: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(said), flush=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other process logs a run; none will meanwhile."""
    with (folder / PLACE / EVENTS).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def main(folder: Path) -> None:
    """Logs a run until it ends."""
    with alone(folder) as free:
        if free:
            follow(folder, _say, _with_parent())
    _tell({"done": True})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
