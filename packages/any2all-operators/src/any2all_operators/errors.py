"""The exception for requests that cannot be carried out as they were made."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A user's mistake.

    Its message is one line that says what was given, what was expected and what to do. The command
    line prints it without a traceback and exits with 2.
    """


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """Suggest the closest name for a mistyped one.

    Parameters
    ----------
    given
        The name that was typed.
    names
        The valid names.

    Returns
    -------
    str
        ``; did you mean NAME?``, or an empty string if no name is close.
    """
    by_lower = {name.lower(): name for name in names}
    close = get_close_matches(given.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""
