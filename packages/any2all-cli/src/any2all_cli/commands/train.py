"""``any2all train``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import DATA, RECIPE, RUNNING, HeldOut, Precision, TrainedModalities


def train(
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Cohort made by prepare, or a folder of <patient>/<modality>.nii.gz",
            rich_help_panel=DATA,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the prior, or the method, and its checkpoints",
            rich_help_panel=RUNNING,
        ),
    ],
    validation: HeldOut = None,
    modalities: TrainedModalities = None,
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete",
            help="Also train on patients who lack modalities. A prior with levels=shared needs "
            "any2all fill first",
            rich_help_panel=DATA,
        ),
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:OPTION=VALUE...]",
            help="Train this installed method instead of a prior; any2all plugins lists them",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Recipe: small (for two cores), paper, or a TOML file as any2all plan writes it",
            show_default="planned for --data and this machine; a resumed run keeps its own; a "
            "method takes small",
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
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of training steps, the same as --set steps=N",
            show_default="the recipe's",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change one entry of the recipe or one option of the method; may be repeated",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="PRIOR",
            help="Start from the weights of this prior: a folder written by train or an installed "
            "prior's name. It shares some modalities and may have others",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --output", rich_help_panel=RUNNING),
    ] = False,
    precision: Precision = "auto",
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Also write curves and samples for TensorBoard",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="Divide the weights among the processes with FSDP, to save memory",
            rich_help_panel=RUNNING,
        ),
    ] = False,
) -> None:
    """Train a prior, or with --method a model for one task.

    To train in several processes, use
    accelerate launch -m any2all_cli train ... or torchrun.

    Examples:

      any2all train --data cohort --output runs/mine --hours 8
      any2all train --data cohort --output runs/mine --resume
      any2all train --data cohort --output runs/two --set channels=32+64
    """
    from any2all_app.grammar import name_values
    from any2all_operators import UserError

    changes = name_values(set_ or [], "--set")
    if steps is not None:
        if "steps" in changes:
            raise UserError("--steps and --set steps= set the same value: give only one of them")
        changes["steps"] = str(steps)
    if method is not None or (resume and (output / "method.json").is_file()):
        from any2all_app.fitting import Fitting

        from any2all_cli.train import train_method

        refused = {"--start-from": start_from, "--tensorboard": tensorboard}
        refused |= {"--shard": shard, "--hours": hours is not None}
        if named := [option for option, value in refused.items() if value]:
            raise UserError(
                f"{', '.join(named)} cannot be used with --method, only for priors: leave it out"
            )
        fitting = Fitting(
            method=method,
            data=data,
            validation=validation,
            modalities=tuple(modalities.split(",")) if modalities else None,
            recipe=recipe,
            changes=changes,
            resume=resume,
            precision=precision,
            incomplete=incomplete,
        )
        train_method(fitting, output)
        return
    from any2all_app.training import Training

    from any2all_cli.train import train_prior

    training = Training(
        data=data,
        validation=validation,
        modalities=tuple(modalities.split(",")) if modalities else None,
        recipe=recipe,
        changes=changes,
        start_from=start_from,
        resume=resume,
        precision=precision,
        incomplete=incomplete,
        tensorboard=tensorboard,
        shard=shard,
        hours=hours,
    )
    train_prior(training, output)
