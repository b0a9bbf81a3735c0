"""The progress of an evaluation, measured by its cost."""

from __future__ import annotations

from collections.abc import Mapping

from any2all_app.observer import Observer

EVALUATING = "evaluating, network passes"


class Work:
    """Tells an observer the progress of the work on all patients, {name: cost}."""

    def __init__(self, observer: Observer, left: Mapping[str, int]) -> None:
        self.observer, self.left, self.total = observer, dict(left), sum(left.values())
        self.sum = 0
        self.done(0)

    def done(self, count: int) -> None:
        """This much more is done."""
        self.sum += count
        if self.total:
            self.observer.progress(EVALUATING, self.sum, self.total)

    def without(self, name: str) -> None:
        """The work of a patient who was left out is dropped."""
        self.done(self.left.get(name, 0))
