"""The one kind of error a user is meant to read, and what becomes of all others."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

log = logging.getLogger("cai")
trace = logging.getLogger("cai.traceback")  # goes to run.log only
failed: list[str] = []


class UserError(Exception):
    """One line: what, where, why, what to do. Shown without a traceback; the command exits with 1."""


@contextlib.contextmanager
def failures(name: str) -> Iterator[None]:
    """Notes what fails inside, in one line that begins with `name`; the traceback goes to the run's log."""
    try:
        yield
    except Exception as error:
        failed.append(name)
        log.error("cai: %s", f"{name}: {one_line(error)}" if name else one_line(error))
        trace.error("traceback", exc_info=error)


def one_line(error: BaseException) -> str:
    """What an error says, in one line: its notes, its path if it is one of files, its kind if it was not foreseen."""
    said = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not (isinstance(error, UserError | ValueError) and said):
        said = f"{type(error).__name__}: {said}"
    return ": ".join([*getattr(error, "__notes__", []), said])


def nearest(name: str, known: list[str]) -> str:
    """ " Did you mean 'x'?" for the closest known name, or an empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
