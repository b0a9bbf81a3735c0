"""The exception for requests that cannot be carried out as they were made."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A user's mistake.

    Its message is one line that says what was given, what was expected and what to do. The command
    line prints it without a traceback and exits with 2.
    """


LISTED = 12
"""Valid names in a message, at most."""


def valid_names(given: str, names: Iterable[str], said: str, command: str = "") -> str:
    """The end of a message about an unknown name: the closest valid name first, then all of them.

    Parameters
    ----------
    given
        The name that was typed.
    names
        The valid names. A text after ``=``, as in ``steps=20 (int)``, is not part of the name.
    said
        What these are, as in ``installed:``.
    command
        The command that lists all of them, if there are more than LISTED.

    Returns
    -------
    str
        ``; did you mean mds? Installed: mcs, mds``, or ``; installed: mcs, mds`` if none is close.
    """
    names = list(names)
    by_lower = {name.partition("=")[0].lower(): name.partition("=")[0] for name in names}
    close = [name for name in by_lower if name.startswith(given.lower())]
    if len(close) != 1:
        close = get_close_matches(given.lower(), by_lower)
    close.sort(key=lambda name: sorted(name) != sorted(given.lower()))  # exchanged letters first
    shown = ", ".join(names[:LISTED]) or "none"
    if len(names) > LISTED:
        rest = f"{len(names) - LISTED} more"
        shown += f" and {rest} ({command} lists all)" if command else f" and {rest}"
    if not close:
        return f"; {said} {shown}"
    return f"; did you mean {by_lower[close[0]]}? {said[0].upper()}{said[1:]} {shown}"
