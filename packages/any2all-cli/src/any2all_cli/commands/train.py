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
            help="The prior, or the method, and its checkpoints",
            rich_help_panel=RUNNING,
        ),
    ],
    validation: HeldOut = None,
    modalities: TrainedModalities = None,
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete",
            help="Also train on patients who lack modalities; with levels=shared, once any2all "
            "fill has drawn what they lack",
            rich_help_panel=DATA,
        ),
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:OPTION=VALUE...]",
            help="Train this instead of a prior: an installed method; any2all plugins lists them",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="small (two cores), paper, or a TOML file, as any2all plan writes",
            show_default="planned for --data and this machine; of a run that is resumed its own; "
            "of a method small",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            help="How long it may take; the number of steps follows from the time of a step",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many steps; as --set steps=N",
            show_default="the recipe's",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change one entry of the recipe, or option of the method; may be repeated",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="PRIOR",
            help="Prior to begin with, of some of these modalities or of others besides: a folder "
            "written by train, or an installed one",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --output", rich_help_panel=RUNNING),
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
            help="Share the weights out among the processes, too (FSDP)",
            rich_help_panel=RUNNING,
        ),
    ] = False,
) -> None:
    """Train a prior, or with --method a method of one task.

    Several processes are started by
    accelerate launch -m any2all_cli train ... or by torchrun.

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
            raise UserError("--steps and --set steps= say the same: give one of them")
        changes["steps"] = str(steps)
    if method is not None or (resume and (output / "method.json").is_file()):
        from any2all_app.fitting import Fitting

        from any2all_cli.train import train_method

        refused = {"--start-from": start_from, "--tensorboard": tensorboard}
        refused |= {"--shard": shard, "--hours": hours is not None}
        if named := [option for option, value in refused.items() if value]:
            raise UserError(f"--method and {', '.join(named)}: these are for priors; leave it out")
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
