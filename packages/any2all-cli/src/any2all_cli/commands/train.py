"""``any2all train``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import Precision


def train(
    data: Annotated[
        str,
        typer.Option(
            help="Cohort made by prepare, or folder of patients: DATA/<patient>/<modality>.nii.gz"
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the prior, or the method, and its checkpoints")
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="Train this instead of a prior: NAME[:OPTION=VALUE...] of an installed method; "
            "any2all plugins lists them"
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Folder of held-out patients [default: a tenth of DATA]"),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(help="Comma-separated, in order [default: all that every patient has]"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="small (two cores), paper, or a TOML file like theirs [default: small; of a run "
            "that is resumed its own]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change one of the recipe, or of the method's options: NAME=VALUE"
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Prior to begin with, of some of these modalities or other ones besides: a folder "
            "written by train, or an installed one"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUTPUT")] = False,
    precision: Precision = "auto",
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete",
            help="Also train on patients who lack modalities; with levels=shared, once any2all "
            "fill has drawn what they lack",
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves and samples for TensorBoard")
    ] = False,
    shard: Annotated[
        bool,
        typer.Option("--shard", help="Share the weights out among the processes, too (FSDP)"),
    ] = False,
) -> None:
    """Train a prior, or with --method a method of one task, on stacks of co-registered images.

    With accelerate launch -m any2all_cli train ..., or torchrun, on several processes.
    """
    from any2all_app.grammar import name_values

    if method is not None or (resume and (output / "method.json").is_file()):
        from any2all_app.fitting import Fitting
        from any2all_operators import UserError

        from any2all_cli.train import run_method

        refused = {"--start-from": start_from, "--tensorboard": tensorboard, "--shard": shard}
        if named := [option for option, value in refused.items() if value]:
            raise UserError(f"--method and {', '.join(named)}: these are for priors; leave it out")
        fitting = Fitting(
            method=method,
            data=data,
            validation=validation,
            modalities=tuple(modalities.split(",")) if modalities else None,
            recipe=recipe,
            changes=name_values(set_ or [], "--set"),
            resume=resume,
            precision=precision,
            incomplete=incomplete,
        )
        run_method(fitting, output)
        return
    from any2all_app.training import Training

    from any2all_cli.train import run

    training = Training(
        data=data,
        validation=validation,
        modalities=tuple(modalities.split(",")) if modalities else None,
        recipe=recipe,
        changes=name_values(set_ or [], "--set"),
        start_from=start_from,
        resume=resume,
        precision=precision,
        incomplete=incomplete,
        tensorboard=tensorboard,
        shard=shard,
    )
    run(training, output)
