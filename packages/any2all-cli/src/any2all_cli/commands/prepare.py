"""``any2all prepare``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import TrustAxes


def prepare(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[SOURCE] COHORT",
            help="SOURCE: folder of DICOM, of BIDS or of <patient>/*.nii.gz; COHORT: a new store, "
            "or one to append to; a path or a URL",
        ),
    ],
    modalities: Annotated[
        str | None, typer.Option(help="Comma-separated, in order [default: all that are found]")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML that maps series to modalities [default: built in]")
    ] = None,
    kinds: Annotated[
        Path | None,
        typer.Option(
            help="TOML of modality kinds beside the built-in ones, as ADC; the cohort keeps them"
        ),
    ] = None,
    spacing: Annotated[
        str, typer.Option(help="Voxels in mm, x,y,z; or native: those of the reference")
    ] = "1.875,1.875,3",
    size: Annotated[
        str, typer.Option(help="Rows and columns of a slice, as 112,96; one number for a square")
    ] = "128",
    reference: Annotated[str, typer.Option(help="Others are registered to this modality")] = "T1",
    split: Annotated[
        str, typer.Option(help="train, val, test; auto (80:10:10 by hash); a JSON file")
    ] = "auto",
    salt: Annotated[
        Path | None,
        typer.Option(help="Secret that names are hashed with [default: COHORT.salt, made]"),
    ] = None,
    register: Annotated[
        bool, typer.Option(help="Register to the reference, or trust the scanner")
    ] = True,
    bias_correct: Annotated[bool, typer.Option("--bias-correct", help="N4 on MR images")] = False,
    trust_axes: TrustAxes = False,
    by_session: Annotated[
        bool,
        typer.Option(
            "--by-session", help="Each session of a patient by itself [default: one joined stack]"
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Prepare anew who is there with other files or options"),
    ] = False,
    virtual: Annotated[
        int | None, typer.Option(help="Draw this many virtual people instead of a SOURCE")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first virtual person")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes [default: one a core]")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which series would be which modality")
    ] = False,
    show_names: Annotated[
        bool, typer.Option("--show-names", help="With --dry-run: identifying names as they are")
    ] = False,
) -> None:
    """Make a training-ready cohort of scans."""
    from any2all_app.finding import Preparing
    from any2all_app.grammar import modality_names, slice_size
    from any2all_data.stacking import Preparation

    from any2all_cli.prepare import run, spacing_of

    preparing = Preparing(
        modalities=modality_names(modalities) if modalities else None,
        rules=rules,
        kinds=kinds,
        spacing=spacing_of(spacing),
        size=slice_size(size, "--size"),
        reference=reference,
        split=split,
        salt=salt,
        by_session=by_session,
        replace=replace,
        preparation=Preparation(register, bias_correct, seed, trust_axes),
        workers=workers,
        scheduler=scheduler,
    )
    if not run(paths, virtual, preparing, dry_run, show_names):
        raise typer.Exit(1)
