"""Show a command's messages and progress bars in the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from any2all_app.observer import Observer

FIRST_LINE, LINES = 20.0, 60.0
"""Seconds until the first progress line, and between lines, if the output is not a terminal."""


def duration(seconds: float) -> str:
    """Format seconds as ``40 s``, ``7 min`` or ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass
class Pace:
    """The mean speed of a task since it began, which includes slow steps.

    ``first`` and ``share`` are shares of its time: ``share`` is done now, and ``first`` was done at
    the time ``began``.
    """

    began: float
    first: float
    share: float

    def left(self, now: float) -> float | None:
        """Return the seconds until the end; None before anything is done."""
        moved = self.share - self.first
        if moved <= 0:
            return None
        return (now - self.began) / moved * (1 - self.share)


class TimeLeft(ProgressColumn):
    """A column with the time left, estimated from the mean speed."""

    def __init__(self, paces: dict[TaskID, Pace]) -> None:
        super().__init__()
        self.paces = paces

    def render(self, task: Task) -> Text:
        """Return ``7 min left``, or the duration of a finished task."""
        pace = self.paces.get(task.id)
        if pace is None or task.finished:
            return Text(duration(task.finished_time or 0.0))
        left = pace.left(time.monotonic())
        return Text("" if left is None else f"{duration(left)} left")


class TerminalObserver(Observer):
    """Prints sentences, and shows a bar for each task.

    If the output is not a terminal but, for example, a log file, a line per minute replaces the
    bar.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._paces: dict[TaskID, Pace] = {}
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(20)]
        columns += [MofNCompleteColumn(), TimeLeft(self._paces)]
        self.bars = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}
        self._line_at = 0.0

    def say(self, text: str) -> None:
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def progress(
        self, what: str, done: int, total: int, detail: str = "", *, share: float | None = None
    ) -> None:
        now = time.monotonic()
        share = done / max(total, 1) if share is None else share
        if not self._tasks:
            self.bars.start()
        if what not in self._tasks:
            self._tasks[what] = self.bars.add_task(what, total=total, completed=done)
            self._paces[self._tasks[what]] = Pace(now, share, share)
            self._line_at = now + FIRST_LINE
        task = self._tasks[what]
        self._paces[task].share = share
        said = f"{what} {detail}" if detail else what
        self.bars.update(task, completed=done, description=escape(said))
        if not self.console.is_terminal and now >= self._line_at and done < total:
            self._line_at = now + LINES
            left = self._paces[task].left(now)
            if left is not None:
                self.say(f"{said}: {done} of {total}, {duration(left)} left")


@contextmanager
def observed(console: Console) -> Iterator[TerminalObserver]:
    """Give an observer whose bars are removed when the block ends."""
    observer = TerminalObserver(console)
    try:
        yield observer
    finally:
        if observer.bars.live.is_started:
            observer.bars.stop()
