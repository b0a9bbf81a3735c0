"""Observers that show the progress of long runs."""

from __future__ import annotations

from collections.abc import Sequence


class Observer:
    """Receives a run's messages and progress. This base class shows nothing.

    A subclass shows them. ``say`` gets a sentence for the user. ``progress`` gets the name of the
    work, the amounts done and in total, and a changing detail such as the loss. ``share`` is the
    share of the time that these amounts take, if they do not take equal times.
    """

    def say(self, text: str) -> None:
        """Show a sentence."""

    def progress(
        self, what: str, done: int, total: int, detail: str = "", *, share: float | None = None
    ) -> None:
        """Show how much is done."""


SILENT = Observer()


class Count:
    """Counts its calls, one per finished item, and reports the count to an observer."""

    def __init__(self, observer: Observer, what: str, total: int) -> None:
        self.observer, self.what, self.total, self.done = observer, what, total, 0
        if total:
            observer.progress(what, 0, total)

    def __call__(self) -> None:
        self.done += 1
        self.observer.progress(self.what, self.done, self.total)


class PassCount:
    """Counts the passes of the network from the steps of a sampler, and reports them.

    It is called after each step of a batch. A step counts as ``passes / steps`` passes for each
    slice of the batch, so that the count grows evenly with time.
    """

    def __init__(
        self, observer: Observer, what: str, batches: Sequence[int], *, steps: int, passes: int
    ) -> None:
        """``batches`` are the numbers of slices of the batches to draw."""
        self.observer, self.what, self.steps, self.passes = observer, what, steps, passes
        self.batches = batches
        self.total = passes * sum(batches)
        self.calls = 0
        observer.progress(what, 0, self.total)

    def __call__(self) -> None:
        self.calls += 1
        batch, step = divmod(self.calls, self.steps)
        slices = (
            sum(self.batches[:batch]) + sum(self.batches[batch : batch + 1]) * step / self.steps
        )
        self.observer.progress(self.what, min(round(self.passes * slices), self.total), self.total)
