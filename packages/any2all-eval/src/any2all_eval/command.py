"""``any2all evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WHAT, WHOM, MEASURED, RUNNING = "What is evaluated", "Patients", "Metrics", "Running"
"""Titles of the groups of options."""


def evaluate(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="readme, reconstruction, synthesis, mixed, generation, or your own TOML files",
        ),
    ],
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            help="A cohort, or a folder with the folders train, val and test of patients. Without "
            "a split (a folder of patients, one patient) everybody is judged",
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
            show_default="lgg; none with --method",
            rich_help_panel=WHAT,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Also evaluate this folder written by train --method; may be repeated",
            metavar="FOLDER",
            rich_help_panel=WHAT,
        ),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[:OPTION=VALUE,...] in place of the studies' samplers; may be repeated",
            metavar="SAMPLER",
            rich_help_panel=WHAT,
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Evaluate the mean of this many draws",
            show_default="as the studies say",
            metavar="N",
            rich_help_panel=WHAT,
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(help="test, or val to tune on", metavar="NAME", rich_help_panel=WHOM)
    ] = "test",
    patients: Annotated[
        int | None,
        typer.Option(min=1, help="Take the first N patients", metavar="N", rich_help_panel=WHOM),
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Take N evenly spread slices of each patient",
            show_default="all",
            metavar="N",
            rich_help_panel=WHOM,
        ),
    ] = None,
    every: Annotated[
        int,
        typer.Option(
            min=1, help="Take every N-th slice of each patient", metavar="N", rich_help_panel=WHOM
        ),
    ] = 1,
    adjacent: Annotated[
        bool,
        typer.Option(
            "--adjacent",
            help="Take the slices of --slices from the middle, next to each other",
            rich_help_panel=WHOM,
        ),
    ] = False,
    references: Annotated[
        bool,
        typer.Option(help="Also evaluate references without a prior", rich_help_panel=MEASURED),
    ] = True,
    lpips: Annotated[
        bool,
        typer.Option(
            "--lpips",
            help="Also compute LPIPS; torchvision downloads its network",
            rich_help_panel=MEASURED,
        ),
    ] = False,
    inception: Annotated[
        Path | None,
        typer.Option(
            help="Also compute FID of draws, with this file of torch-fidelity's Inception weights",
            metavar="FILE",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Also compute a challenge's metrics of whole volumes: synthrad (CT inside the "
            "body mask) or brasyn (MR inside and outside the tumour); may be repeated",
            metavar="NAME",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    shown: Annotated[
        int,
        typer.Option(
            min=0,
            help="Show the images of N patients in report.html, without names",
            metavar="N",
            rich_help_panel=MEASURED,
        ),
    ] = 3,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Report on two slices of three patients within two minutes, cheap methods first. "
            "The same command with --resume in place of --quick then does the whole study",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in OUTPUT", rich_help_panel=RUNNING)
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
    """Evaluate a prior and its samplers on held-out patients, and write a report.

    The report compares them with references and has statistics over patients. The processes of
    torchrun -m any2all_cli evaluate ... share the patients.
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
