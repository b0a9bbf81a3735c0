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


def run(training: Training, output: Path) -> None:
    """Train, and say where the prior is."""
    _run(lambda observer: train(training, output, observer), "prior", output)


def run_method(fitting: Fitting, output: Path) -> None:
    """Train a method, and say where it is."""
    _run(lambda observer: fit(fitting, output, observer), "method", output)


def _run(work: Callable[[Observer], Path], what: str, output: Path) -> None:
    console = Console(stderr=True, quiet=not engine().is_main_process)
    with observed(console) as observer:
        try:
            work(observer)
        except Stopped as stopped:
            why = "Ctrl-C" if stopped.signal == signal.SIGINT else stopped.signal.name
            observer.say(f"{why}: saved at step {stopped.step}; go on with --resume")
            raise SystemExit(128 + stopped.signal) from None
        observer.say(f"{what} written to {output}, its best to {output / BEST}")
