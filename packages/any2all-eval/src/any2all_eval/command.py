"""``any2all evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WHAT, WHOM, MEASURED, RUNNING = "What is evaluated", "On whom", "What is measured", "Running"
"""Titles of the groups of options."""


def evaluate(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="readme, reconstruction, synthesis, mixed, generation, or TOML files like theirs",
        ),
    ],
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            help="A cohort, or a folder with the folders train, val and test of patients",
            metavar="PATH",
            rich_help_panel=WHAT,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(help="New folder for the results", metavar="FOLDER", rich_help_panel=RUNNING),
    ],
    prior: Annotated[
        str | None,
        typer.Option(
            help="Folder written by train, an installed prior's name, or hf:OWNER/NAME",
            metavar="PRIOR",
            show_default="lgg; none beside --method",
            rich_help_panel=WHAT,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Also a folder written by train --method; may be repeated",
            metavar="FOLDER",
            rich_help_panel=WHAT,
        ),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[:OPTION=VALUE,...] instead of the studies' own samplers; may be repeated",
            metavar="SAMPLER",
            rich_help_panel=WHAT,
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Mean of so many",
            show_default="the studies' own",
            metavar="N",
            rich_help_panel=WHAT,
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(help="test, or val to tune on", metavar="NAME", rich_help_panel=WHOM)
    ] = "test",
    patients: Annotated[
        int | None, typer.Option(min=1, help="The first so many", metavar="N", rich_help_panel=WHOM)
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of each patient, evenly spread",
            show_default="all",
            metavar="N",
            rich_help_panel=WHOM,
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            min=1, help="Every N-th slice of each patient", metavar="N", rich_help_panel=WHOM
        ),
    ] = 1,
    adjacent: Annotated[
        bool,
        typer.Option(
            "--adjacent",
            help="The slices of --slices are next to each other, in the middle",
            rich_help_panel=WHOM,
        ),
    ] = False,
    references: Annotated[
        bool, typer.Option(help="Also what does without the prior", rich_help_panel=MEASURED)
    ] = True,
    lpips: Annotated[
        bool,
        typer.Option(
            "--lpips",
            help="Also LPIPS, whose network torchvision fetches",
            rich_help_panel=MEASURED,
        ),
    ] = False,
    inception: Annotated[
        Path | None,
        typer.Option(
            help="Also FID of generation, by this file of torch-fidelity's Inception weights",
            metavar="FILE",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Also the metrics of a challenge, of whole volumes: synthrad (CT in the mask of "
            "the body) or brasyn (MR in the tumour and the rest); may be repeated",
            metavar="NAME",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    shown: Annotated[
        int,
        typer.Option(
            min=0,
            help="Patients whose images are in report.html, unnamed",
            metavar="N",
            rich_help_panel=MEASURED,
        ),
    ] = 3,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A report within two minutes: two slices of three patients, cheap methods first. "
            "The same command with --resume in its place goes on to the whole study",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUTPUT", rich_help_panel=RUNNING)
    ] = False,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Slices per network call", metavar="N", rich_help_panel=RUNNING),
    ] = 8,
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bfloat16", metavar="NAME", rich_help_panel=RUNNING)
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda:N, or auto: the GPU of this process, if it has one",
            metavar="NAME",
            rich_help_panel=RUNNING,
        ),
    ] = "auto",
) -> None:
    """Measure what a prior and samplers do, with references, statistics and a report.

    Patients are shared among the processes of torchrun -m any2all_cli evaluate ...
    """
    from any2all_app.terminal import observed
    from rich.console import Console

    from any2all_eval.evaluation import Evaluation
    from any2all_eval.evaluation import evaluate as evaluate_

    asked = Evaluation(
        studies=studies,
        input=input_,
        prior=prior,
        methods=method or [],
        samplers=sampler or [],
        draws=draws,
        group=group,
        patients=patients,
        slices=slices,
        every=every,
        adjacent=adjacent,
        references=references,
        lpips=lpips,
        inception=inception,
        metrics=metrics or [],
        shown=shown,
        batch_size=batch_size,
        precision=precision,
        device=device,
        quick=quick,
    )
    with observed(Console(stderr=True)) as observer:
        whole = evaluate_(asked, output, observer, resume=resume)
    if not whole:
        raise typer.Exit(1)
