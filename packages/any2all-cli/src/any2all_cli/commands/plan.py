"""``any2all plan``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import DATA, RECIPE, HeldOut, Precision, TrainedModalities


def plan(
    data: Annotated[
        str,
        typer.Argument(
            metavar="COHORT",
            help="Cohort made by prepare, or a folder of <patient>/<modality>.nii.gz",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the recipe into this new TOML file",
            show_default="print it",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            help="Training time in hours, from which the number of steps is computed",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    validation: HeldOut = None,
    modalities: TrainedModalities = None,
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete", help="Also count patients who lack modalities", rich_help_panel=DATA
        ),
    ] = False,
    precision: Precision = "auto",
) -> None:
    """Write a training recipe that fits a cohort and this machine.

    The command times a few training steps and checks the memory. Edit the recipe and give it to
    train with --recipe. Without --recipe, train makes the same plan.

    Examples:

      any2all plan cohort
      any2all plan cohort --hours 8 --output recipe.toml
    """
    from any2all_app.training import Training

    from any2all_cli.planning import plan_training

    training = Training(
        data=data,
        validation=validation,
        modalities=tuple(modalities.split(",")) if modalities else None,
        incomplete=incomplete,
        precision=precision,
        hours=hours,
    )
    plan_training(training, output)
