"""``any2all fill``: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from any2all_cli.shared_options import Device, Precision, Preset, SamplerName, SamplerOptions, Seed


def fill(
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Made by any2all prepare")],
    prior: Annotated[
        str,
        typer.Option(
            help="Trained on those of its patients who lack nothing: folder, name, or hf:"
        ),
    ],
    sampler: SamplerName = "mds",
    set_: SamplerOptions = None,
    preset: Preset = None,
    seed: Seed = 0,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Draw anew what another prior, sampler or seed has drawn; not while it is "
            "trained on",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Slices per network call")] = 32,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Draw what training patients lack, for train --incomplete.

    Goes on where it was interrupted; patients are shared among the processes of torchrun.
    """
    from any2all_app.completion import NamedPrior
    from any2all_app.filling import Filling
    from any2all_app.grammar import name_values
    from any2all_core.reconstruct import make_sampler

    from any2all_cli.fill import run

    filling = Filling(
        NamedPrior.load(prior, precision, device),
        make_sampler(sampler, name_values(set_ or [], "--set"), preset),
        sampler,
        seed=seed,
        replace=replace,
        batch_size=batch_size,
    )
    run(url, filling)
