"""``any2all evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="reconstruction, synthesis, mixed, generation, or TOML files like theirs",
        ),
    ],
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            help="A cohort, or a folder with the folders train, val and test of patients",
        ),
    ],
    output: Annotated[Path, typer.Option(help="New folder for the results")],
    prior: Annotated[
        str | None,
        typer.Option(
            help="Folder written by train, an installed prior's name, or hf:... [default: lgg; "
            "none beside --method]"
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Also a folder written by train --method; may be repeated"),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="NAME[:OPTION=VALUE...] instead of the studies' own; may be repeated"),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Mean of so many [default: the studies' own]")
    ] = None,
    group: Annotated[str, typer.Option(help="test, or val to tune on")] = "test",
    patients: Annotated[int | None, typer.Option(min=1, help="The first so many")] = None,
    slices: Annotated[
        int | None, typer.Option(min=1, help="Of each patient, evenly spread [default: all]")
    ] = None,
    references: Annotated[bool, typer.Option(help="Also what does without the prior")] = True,
    lpips: Annotated[
        bool, typer.Option("--lpips", help="Also LPIPS, whose network torchvision fetches")
    ] = False,
    inception: Annotated[
        Path | None,
        typer.Option(help="Also FID of generation: torch-fidelity's pt_inception-2015-12-05 file"),
    ] = None,
    shown: Annotated[
        int, typer.Option(min=0, help="Patients whose images are in report.html, unnamed")
    ] = 3,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUTPUT")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Slices per network call")] = 8,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16")] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda:N, or auto: the GPU of this process, if it has one")
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
        references=references,
        lpips=lpips,
        inception=inception,
        shown=shown,
        batch_size=batch_size,
        precision=precision,
        device=device,
    )
    with observed(Console(stderr=True)) as observer:
        whole = evaluate_(asked, output, observer, resume=resume)
    if not whole:
        raise typer.Exit(1)
