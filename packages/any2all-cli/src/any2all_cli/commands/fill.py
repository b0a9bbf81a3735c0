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
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Made by any2all prepare")],
    prior: Annotated[
        str,
        typer.Option(
            help="Trained on those of its patients who lack nothing: folder, name, or hf:",
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
            help="Draw anew what another prior, sampler or seed has drawn; not while it is "
            "trained on",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(help="Slices per network call", metavar="N", rich_help_panel=RUNNING)
    ] = 32,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Draw what training patients lack, for train --incomplete.

    Goes on where it was interrupted; patients are shared among the processes of torchrun.
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
