"""What is learned of replies that were cut at max_new_tokens: they end where their writer had not ended."""

from __future__ import annotations

from collections.abc import Callable

Unfinished = Callable[[bool], bool | None]
"""Whether a reply was finished -> whether its end token is learned; None leaves the reply out."""


def keep(finished: bool) -> bool | None:  # noqa: ARG001
    """Every reply with an end token, cut ones as if they had ended there."""
    return True


def no_end(finished: bool) -> bool | None:
    """The words of cut replies without an end token."""
    return finished


def drop(finished: bool) -> bool | None:
    """Finished replies only."""
    return finished or None
