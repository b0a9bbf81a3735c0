"""``any2all fill``: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from any2all_cli.shared_options import (
    PRIOR,
    RUNNING,
    Device,
    OldOptions,
    OldPreset,
    Precision,
    SamplerText,
    Seed,
    say_if_old,
    with_old_options,
)


def fill(
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Cohort made by any2all prepare")],
    prior: Annotated[
        str,
        typer.Option(
            help="Prior trained on the cohort's complete patients: a folder written by train, an "
            "installed prior's name, or hf:OWNER/NAME",
            metavar="PRIOR",
            rich_help_panel=PRIOR,
        ),
    ],
    sampler: SamplerText = "mds",
    set_: OldOptions = None,
    preset: OldPreset = None,
    seed: Seed = 0,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Replace images drawn with another prior, sampler or seed. Stop any training on "
            "this cohort first",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(help="Slices per network call", metavar="N", rich_help_panel=RUNNING)
    ] = 32,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Draw the missing images of training patients, for train --incomplete.

    An interrupted run continues when the same command is given again.
    Under torchrun, the patients are divided among the processes.
    """
    from any2all_app.filling import Filling
    from any2all_app.grammar import sampler_name, sampler_of
    from any2all_app.named_prior import NamedPrior

    from any2all_cli.fill import fill_cohort

    sampler = with_old_options(sampler, set_, preset)
    filling = Filling(
        NamedPrior.load(prior, precision, device),
        sampler_of(sampler),
        sampler_name(sampler),
        seed=seed,
        replace=replace,
        batch_size=batch_size,
    )
    fill_cohort(url, filling)
    say_if_old(sampler, set_, preset)
