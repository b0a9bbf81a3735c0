"""``any2all fill``."""

from __future__ import annotations

from any2all_app.filling import Filling, fill
from any2all_app.shared_run import share
from any2all_app.terminal import observed
from rich.console import Console


def fill_cohort(cohort: str, filling: Filling) -> None:
    """Draw the missing images of training patients, and say that they are synthetic."""
    console = Console(stderr=True)
    with observed(console) as observer:
        count = fill(cohort, filling, observer)
    if share()[0] == 0:
        console.print(
            f"{count} patients lacked images: the drawn images are synthetic, for train "
            "--incomplete only"
        )
