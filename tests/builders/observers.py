"""An observer that keeps what it is told."""

from __future__ import annotations

from any2all_app.observer import Observer


class Said(Observer):
    """Keeps the sentences in ``said``."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
