"""``any2all train``."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from any2all_app.fitting import Fitting, fit
from any2all_app.observer import Observer
from any2all_app.terminal import observed
from any2all_app.training import Training, train
from any2all_core.checkpoint import BEST
from any2all_core.loop import Stopped
from any2all_core.weights import engine
from rich.console import Console


def train_prior(training: Training, output: Path) -> None:
    """Train, and say where the prior is."""
    _told(lambda observer: train(training, output, observer), "prior", output)


def train_method(fitting: Fitting, output: Path) -> None:
    """Train a method, and say where it is."""
    _told(lambda observer: fit(fitting, output, observer), "method", output)


def _told(work: Callable[[Observer], Path], what: str, output: Path) -> None:
    """Train, and say where the result is, or how to continue after a signal."""
    console = Console(stderr=True, quiet=not engine().is_main_process)
    with observed(console) as observer:
        try:
            work(observer)
        except Stopped as stopped:
            why = "Ctrl-C" if stopped.signal == signal.SIGINT else stopped.signal.name
            observer.say(f"{why}: saved at step {stopped.step}; continue with --resume")
            raise SystemExit(128 + stopped.signal) from None
        observer.say(f"{what} written to {output}, its best to {output / BEST}")
