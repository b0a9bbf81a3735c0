"""What all commands show in the terminal: sentences, and bars with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from any2all_app.observer import Observer


def progress_bar(console: Console, said: str = "{task.description}", unit: str = "") -> Progress:
    """What is done, a bar, how many of how many, of what unit, and the time left."""
    columns: list[ProgressColumn] = [TextColumn(said), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(unit)] if unit else []
    return Progress(*columns, TimeRemainingColumn(), console=console)


class TerminalObserver(Observer):
    """Sentences on the console, and one bar for each thing that is done."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self.console, self.bars = console, bars
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def progress(self, what: str, done: int, total: int, detail: str = "") -> None:
        if not self._tasks:
            self.bars.start()
        if what not in self._tasks:
            self._tasks[what] = self.bars.add_task(what, total=total)
        said = f"{what} {detail}" if detail else what
        self.bars.update(self._tasks[what], completed=done, description=said)


@contextmanager
def observed(console: Console) -> Iterator[TerminalObserver]:
    """An observer whose bars are there from the first progress until the block ends."""
    bars = progress_bar(console)
    try:
        yield TerminalObserver(console, bars)
    finally:
        if bars.live.is_started:
            bars.stop()
