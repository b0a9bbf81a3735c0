"""Who is told what a long run does."""

from __future__ import annotations


class Observer:
    """Is told what is done and how much of it; this one keeps silent.

    A subclass shows it. ``say`` is a sentence for the user. ``progress`` is told what is done, how
    much of it, of how much, and a detail that changes, as the loss.
    """

    def say(self, text: str) -> None:
        """Show a sentence."""

    def progress(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Show how much is done."""


SILENT = Observer()


class Count:
    """Called once for each thing that is done; tells an observer how many of how many."""

    def __init__(self, observer: Observer, what: str, total: int) -> None:
        self.observer, self.what, self.total, self.done = observer, what, total, 0
        if total:
            observer.progress(what, 0, total)

    def __call__(self) -> None:
        self.done += 1
        self.observer.progress(self.what, self.done, self.total)
