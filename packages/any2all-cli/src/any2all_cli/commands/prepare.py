"""``any2all prepare``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import COHORT, DATA, GRID, RUNNING, TrustAxes


def prepare(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[SOURCE] COHORT",
            help="SOURCE is a folder of DICOM, of BIDS or of <patient>/*.nii.gz. COHORT is the "
            "path or URL of a new cohort, or of one to append to",
        ),
    ],
    modalities: Annotated[
        str | None,
        typer.Option(
            help="Modalities in channel order, for example T1,FLAIR",
            show_default="all that are found",
            metavar="LIST",
            rich_help_panel=DATA,
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="TOML file that maps series to modalities",
            show_default="the built-in rules",
            metavar="FILE",
            rich_help_panel=DATA,
        ),
    ] = None,
    kinds: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of further modality kinds, for example ADC; the cohort stores them",
            metavar="FILE",
            rich_help_panel=DATA,
        ),
    ] = None,
    spacing: Annotated[
        str,
        typer.Option(
            help="Voxel size x,y,z in mm; native takes the reference image's",
            metavar="X,Y,Z",
            rich_help_panel=GRID,
        ),
    ] = "1.875,1.875,3",
    size: Annotated[
        str,
        typer.Option(
            help="Rows and columns of a slice, for example 112,96; one number means a square",
            metavar="ROWS,COLS",
            rich_help_panel=GRID,
        ),
    ] = "128",
    reference: Annotated[
        str,
        typer.Option(
            help="Modality to which the others are registered",
            metavar="NAME",
            rich_help_panel=GRID,
        ),
    ] = "T1",
    split: Annotated[
        str,
        typer.Option(
            help="Split of the patients: train, val, test, auto (80:10:10 by hash) or a JSON file",
            metavar="NAME",
            rich_help_panel=COHORT,
        ),
    ] = "auto",
    salt: Annotated[
        Path | None,
        typer.Option(
            help="File of the secret salt from which pseudonyms are hashed",
            show_default="COHORT.salt, created if missing",
            metavar="FILE",
            rich_help_panel=COHORT,
        ),
    ] = None,
    register: Annotated[
        bool,
        typer.Option(
            help="Register images to the reference, or trust the scanner's coordinates",
            rich_help_panel=GRID,
        ),
    ] = True,
    bias_correct: Annotated[
        bool,
        typer.Option(
            "--bias-correct",
            help="Correct the bias field of MR images with N4",
            rich_help_panel=GRID,
        ),
    ] = False,
    trust_axes: TrustAxes = False,
    by_session: Annotated[
        bool,
        typer.Option(
            "--by-session",
            help="Treat each session as a patient of its own",
            show_default="join a patient's sessions",
            rich_help_panel=COHORT,
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Prepare a patient again when its files or options have changed",
            rich_help_panel=COHORT,
        ),
    ] = False,
    virtual: Annotated[
        int | None,
        typer.Option(
            help="Draw this many virtual people instead of a SOURCE",
            metavar="N",
            rich_help_panel=DATA,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of the first virtual person", metavar="N", rich_help_panel=DATA
        ),
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes",
            show_default="one per core",
            metavar="N",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, tcp://HOST:PORT",
            metavar="URL",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show which series would be used as which modality",
            rich_help_panel=DATA,
        ),
    ] = False,
    show_names: Annotated[
        bool,
        typer.Option(
            "--show-names",
            help="With --dry-run, show identifying names instead of pseudonyms",
            rich_help_panel=DATA,
        ),
    ] = False,
) -> None:
    """Turn scans into a cohort for training."""
    from any2all_app.finding import Preparing
    from any2all_app.grammar import modality_names, slice_size
    from any2all_data.modality_names import by_rules
    from any2all_data.stacking import Preparation

    from any2all_cli.prepare import prepare_cohort, spacing_of

    names = modality_names(modalities) if modalities else None
    if rules is None and kinds is None:  # the built-in rules map every alias to one name
        names, reference = names and tuple(map(by_rules, names)), by_rules(reference)
    preparing = Preparing(
        modalities=names,
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
    whole = prepare_cohort(
        paths, preparing, virtual=virtual, dry_run=dry_run, show_names=show_names
    )
    if not whole:
        raise typer.Exit(1)
