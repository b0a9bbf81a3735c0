"""``any2all sample``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from any2all_cli.shared_options import (
    PATIENT,
    PRIOR,
    RESULT,
    RUNNING,
    Device,
    OldOptions,
    OldPreset,
    Precision,
    SamplerText,
    Seed,
    TrustAxes,
    say_if_old,
    with_old_options,
)


def sample(
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="PATH",
            help="One patient (a folder of NIfTI or DICOM files, or COHORT/PATIENT) or many "
            "(COHORT, or a folder of patient folders)",
            show_default="the prior's example",
            rich_help_panel=PATIENT,
        ),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Known modalities and their operators, for example T1=clean,FLAIR=kspace. All "
            "others are missing and are drawn",
            show_default="nothing; new people are drawn",
            rich_help_panel=PATIENT,
        ),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option(
            "--resample",
            help="Register and resample the patient's images to the prior's grid. The result is "
            "written on the patient's own grid",
            rich_help_panel=PATIENT,
        ),
    ] = False,
    slices: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:LAST",
            help="Range of the patient's own slices, counted from 0 at the lowest; LAST is not "
            "included",
            show_default="all",
            rich_help_panel=PATIENT,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this split of a cohort: train, val or test",
            show_default="all patients",
            rich_help_panel=PATIENT,
        ),
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="Take image files as the truth and simulate their measurement",
            rich_help_panel=PATIENT,
        ),
    ] = False,
    trust_axes: TrustAxes = False,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="PRIOR",
            help="Prior: a folder written by train, an installed prior's name, or hf:OWNER/NAME "
            "on the Hugging Face Hub",
            show_default="lgg; virtual without --input",
            rich_help_panel=PRIOR,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER[:dc=true]",
            help="Folder written by train --method, used instead of a prior and a sampler. dc=true "
            "adds one exact data-consistency step to a reconstruction",
            rich_help_panel=PRIOR,
        ),
    ] = None,
    sampler: SamplerText = "mds",
    set_: OldOptions = None,
    preset: OldPreset = None,
    draws: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of draws per slice; their mean and standard deviation are written",
            rich_help_panel=PRIOR,
        ),
    ] = 1,
    through: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="MM",
            help="Correlation length of the noise across slices, in mm; 0 draws each slice "
            "independently",
            rich_help_panel=PRIOR,
        ),
    ] = 0.0,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="New folder for the result",
            show_default="any2all-out-N",
            rich_help_panel=RESULT,
        ),
    ] = None,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom",
            help="Also write derived DICOM series; they contain the patient's name",
            rich_help_panel=RESULT,
        ),
    ] = False,
    dicom_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --dicom, the series whose study and frame of reference the new series join",
            show_default="the series of a DICOM --input",
            rich_help_panel=RESULT,
        ),
    ] = None,
    bids: Annotated[
        bool,
        typer.Option(
            "--bids",
            help="Also write the new images as a BIDS derivative, derivatives/any2all",
            rich_help_panel=RESULT,
        ),
    ] = False,
    seed: Seed = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run over many patients in --output. A run over one patient "
            "continues without this option",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Slices per network call", rich_help_panel=RUNNING)
    ] = 8,
    save_memory: Annotated[
        bool,
        typer.Option(
            "--save-memory",
            help="With mps and mmps, recompute activations for the gradient: less memory, slower",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Draw a patient's missing images, or draw new people without any input.

    An interrupted run continues when the same command is given again.
    Many patients are divided among the processes of
    torchrun -m any2all_cli sample ...

    Examples:

      any2all sample --modalities T1=clean,FLAIR=kspace:acceleration=4
      any2all sample --input p01 --modalities T1=clean --draws 8
      any2all sample --input p01 --modalities t1=clean --resample
      any2all sample --prior mine --sampler mds:preset=paper,steps=50
    """
    from any2all_cli.sample import Request
    from any2all_cli.sample import sample as sample_patients

    request = Request(
        prior=prior,
        input=input_,
        modalities=modalities,
        sampler=with_old_options(sampler, set_, preset),
        output=output,
        draws=draws,
        through=through,
        seed=seed,
        slices=slices,
        simulate=simulate,
        trust_axes=trust_axes,
        resample=resample,
        dicom=dicom,
        dicom_from=dicom_from,
        bids=bids,
        split=split,
        resume=resume,
        batch_size=batch_size,
        save_memory=save_memory,
        precision=precision,
        device=device,
        method=method,
    )
    whole = sample_patients(request)
    say_if_old(request.sampler, set_, preset)
    if not whole:
        raise typer.Exit(1)
