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
            help="SOURCE: folder of DICOM, of BIDS or of <patient>/*.nii.gz; COHORT: a new store, "
            "or one to append to; a path or a URL",
        ),
    ],
    modalities: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, in order",
            show_default="all that are found",
            metavar="LIST",
            rich_help_panel=DATA,
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="TOML that maps series to modalities",
            show_default="built in",
            metavar="FILE",
            rich_help_panel=DATA,
        ),
    ] = None,
    kinds: Annotated[
        Path | None,
        typer.Option(
            help="TOML of modality kinds beside the built-in ones, as ADC; the cohort keeps them",
            metavar="FILE",
            rich_help_panel=DATA,
        ),
    ] = None,
    spacing: Annotated[
        str,
        typer.Option(
            help="Voxels in mm, x,y,z; or native: those of the reference",
            metavar="X,Y,Z",
            rich_help_panel=GRID,
        ),
    ] = "1.875,1.875,3",
    size: Annotated[
        str,
        typer.Option(
            help="Rows and columns of a slice, as 112,96; one number for a square",
            metavar="ROWS,COLS",
            rich_help_panel=GRID,
        ),
    ] = "128",
    reference: Annotated[
        str,
        typer.Option(
            help="Others are registered to this modality", metavar="NAME", rich_help_panel=GRID
        ),
    ] = "T1",
    split: Annotated[
        str,
        typer.Option(
            help="train, val, test; auto (80:10:10 by hash); a JSON file",
            metavar="NAME",
            rich_help_panel=COHORT,
        ),
    ] = "auto",
    salt: Annotated[
        Path | None,
        typer.Option(
            help="Secret that names are hashed with",
            show_default="COHORT.salt, made",
            metavar="FILE",
            rich_help_panel=COHORT,
        ),
    ] = None,
    register: Annotated[
        bool,
        typer.Option(help="Register to the reference, or trust the scanner", rich_help_panel=GRID),
    ] = True,
    bias_correct: Annotated[
        bool, typer.Option("--bias-correct", help="N4 on MR images", rich_help_panel=GRID)
    ] = False,
    trust_axes: TrustAxes = False,
    by_session: Annotated[
        bool,
        typer.Option(
            "--by-session",
            help="Each session of a patient by itself",
            show_default="one joined stack",
            rich_help_panel=COHORT,
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Prepare anew who is there with other files or options",
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
        typer.Option(min=0, help="Of the first virtual person", metavar="N", rich_help_panel=DATA),
    ] = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes", show_default="one a core", metavar="N", rich_help_panel=RUNNING
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
            "--dry-run", help="Show which series would be which modality", rich_help_panel=DATA
        ),
    ] = False,
    show_names: Annotated[
        bool,
        typer.Option(
            "--show-names",
            help="With --dry-run: identifying names as they are",
            rich_help_panel=DATA,
        ),
    ] = False,
) -> None:
    """Make a training-ready cohort of scans."""
    from any2all_app.finding import Preparing
    from any2all_app.grammar import modality_names, slice_size
    from any2all_data.modality_names import by_rules
    from any2all_data.stacking import Preparation

    from any2all_cli.prepare import prepare_cohort, spacing_of

    names = modality_names(modalities) if modalities else None
    if rules is None and kinds is None:  # the built-in ones, which have a name for each alias
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
