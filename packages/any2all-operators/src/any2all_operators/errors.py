"""The one exception that means: what was asked for cannot be done as asked."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A user's mistake, told in one line: what was given, what was expected, what to do.

    The command line prints it without a traceback and exits with 2.
    """


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """``; did you mean NAME?`` where one of the names is close to what was given, or nothing."""
    by_lower = {name.lower(): name for name in names}
    close = get_close_matches(given.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""
