"""``any2all train``."""

from __future__ import annotations

import signal
from pathlib import Path

from any2all_app.terminal import observed
from any2all_app.training import Training, train
from any2all_core.checkpoint import BEST
from any2all_core.loop import Stopped
from any2all_core.weights import engine
from rich.console import Console


def run(training: Training, output: Path) -> None:
    """Train, and say where the prior is."""
    console = Console(stderr=True, quiet=not engine().is_main_process)
    with observed(console) as observer:
        try:
            train(training, output, observer)
        except Stopped as stopped:
            why = "Ctrl-C" if stopped.signal == signal.SIGINT else stopped.signal.name
            observer.say(f"{why}: saved at step {stopped.step}; go on with --resume")
            raise SystemExit(128 + stopped.signal) from None
        observer.say(f"prior written to {output}, its best to {output / BEST}")
