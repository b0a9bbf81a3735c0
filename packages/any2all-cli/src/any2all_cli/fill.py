"""``any2all fill``."""

from __future__ import annotations

from any2all_app.filling import Filling, fill
from any2all_app.shared_run import share
from any2all_app.terminal import observed
from rich.console import Console


def fill_cohort(cohort: str, filling: Filling) -> None:
    """Draw what training patients lack, and say what it is."""
    console = Console(stderr=True)
    with observed(console) as observer:
        count = fill(cohort, filling, observer)
    if share()[0] == 0:
        console.print(
            f"{count} patients with gaps: what is drawn of them is synthetic, and for train "
            "--incomplete alone"
        )
