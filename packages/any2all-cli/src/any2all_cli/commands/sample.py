"""``any2all sample``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import (
    Device,
    Precision,
    Preset,
    SamplerName,
    SamplerOptions,
    Seed,
    TrustAxes,
)


def sample(
    prior: Annotated[
        str | None,
        typer.Option(
            help="Folder written by train, an installed prior's name, or hf:OWNER/NAME of the "
            "Hugging Face Hub [default: lgg; virtual without --input]"
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Instead of a prior and a sampler: FOLDER[:dc=true] written by train --method; dc "
            "makes a reconstruction agree with its scan by one exact step"
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="A patient: folder of NIfTI or DICOM, or COHORT/PATIENT; or many: COHORT, or the "
            "folder of theirs [default: the prior's example]",
        ),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            help="What is known: T1=clean,FLAIR=kspace:acceleration=4; others are missing "
            "[default: nothing, new stacks are drawn]"
        ),
    ] = None,
    sampler: SamplerName = "mds",
    set_: SamplerOptions = None,
    preset: Preset = None,
    output: Annotated[
        Path | None, typer.Option(help="New folder for the results [default: any2all-out-N]")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each slice; mean and spread are kept")] = 1,
    through: Annotated[
        float,
        typer.Option(
            min=0, help="Mm through the slices over which what is invented goes on; 0: each apart"
        ),
    ] = 0.0,
    seed: Seed = 0,
    slices: Annotated[
        str | None, typer.Option(help="FIRST:LAST, counted from the lowest [default: all]")
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Take image files as the truth, measure them virtually"),
    ] = False,
    trust_axes: TrustAxes = False,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="Write derived DICOM series, too; they bear the patient's name"
        ),
    ] = False,
    dicom_from: Annotated[
        Path | None,
        typer.Option(
            help="With --dicom: the series in whose study and space they go [default: that of a "
            "DICOM --input]"
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a cohort: train, val or test [default: everybody]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Of many: go on with the run in OUTPUT")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Slices per network call")] = 8,
    save_memory: Annotated[
        bool,
        typer.Option("--save-memory", help="With mps, mmps: recompute what gradients need; slower"),
    ] = False,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Fill in what a patient lacks, or draw new patients from nothing.

    Many patients are shared among the processes of torchrun -m any2all_cli sample ...
    """
    from any2all_cli.sample import run

    if not run(
        prior,
        input_,
        modalities,
        sampler,
        set_ or [],
        preset,
        output,
        draws,
        through,
        seed,
        slices,
        simulate,
        trust_axes,
        dicom,
        dicom_from,
        split,
        resume,
        batch_size,
        save_memory,
        precision,
        device,
        method,
    ):
        raise typer.Exit(1)
