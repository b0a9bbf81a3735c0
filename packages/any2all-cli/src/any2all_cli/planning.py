"""``any2all plan``."""

from __future__ import annotations

from pathlib import Path

from any2all_app.plan_file import as_toml, costs
from any2all_app.planning import plan
from any2all_app.terminal import observed
from any2all_app.training import Training
from any2all_operators import UserError
from rich.console import Console


def plan_training(training: Training, output: Path | None) -> None:
    """Plan, and write the recipe, or print it."""
    if output is not None and output.exists():
        raise UserError(f"{output}: exists already; choose another --output")
    console = Console(stderr=True)
    with observed(console) as observer:
        made = plan(training, observer)
    if output is None:
        print(as_toml(made), end="")
        return
    output.write_text(as_toml(made))
    for text in (str(made.fingerprint), str(made.machine), *costs(made)):
        console.print(text, highlight=False, soft_wrap=True)
    line = f"recipe in {output}; train with --data {training.data} --recipe {output}"
    console.print(line, highlight=False, soft_wrap=True)
