"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

SamplerName = Annotated[str, typer.Option(help="An installed sampler's name")]
SamplerOptions = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one of the sampler's options: NAME=VALUE"),
]
Preset = Annotated[
    str | None,
    typer.Option(help="A named setting of the sampler; paper has the constants of the paper"),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16")]
Device = Annotated[
    str, typer.Option(help="cpu, cuda:N, or auto: the GPU of this process, if it has one")
]
TrustAxes = Annotated[
    bool,
    typer.Option(
        "--trust-axes",
        help="Read NIfTI whose form codes are both 0: x, y, z run to the right, front and top",
    ),
]
