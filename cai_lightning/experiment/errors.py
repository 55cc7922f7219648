"""The one kind of error a user is meant to read."""


class UserError(Exception):
    """One line: what, where, why, what to do. Shown without a traceback; the command exits with 1."""


def nearest(name: str, known: list[str]) -> str:
    """ " Did you mean 'x'?" for the closest known name, or an empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
