"""``any2all import``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    kind: Annotated[
        str, typer.Argument(help="guided-diffusion, diffusers, or a network plugin's name")
    ],
    source: Annotated[Path, typer.Argument(help="File of weights, or folder of a UNet2DModel")],
    output: Annotated[Path, typer.Option(help="New folder for the prior")],
    modalities: Annotated[str, typer.Option(help="Comma-separated, in the order of its channels")],
    image_size: Annotated[
        str | None, typer.Option(help="Rows,columns", show_default="as the source says")
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(help="epsilon, v or sample", show_default="as the source says, or epsilon"),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="cosine or linear", show_default="as the source says")
    ] = None,
    diffusion_steps: Annotated[int, typer.Option(min=2, help="T of its training")] = 1000,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="guided-diffusion: num_head_channels=N, num_heads=N, use_new_attention_order=true",
        ),
    ] = None,
) -> None:
    """Make a prior of weights that were trained elsewhere."""
    from any2all_app.grammar import slice_size
    from any2all_core.foreign_weights import TrainedAs

    from any2all_cli.foreign_weights import import_weights

    trained_as = TrainedAs(
        slice_size(image_size, "--image-size") if image_size else None,
        prediction,  # type: ignore[arg-type]
        schedule,  # type: ignore[arg-type]
        diffusion_steps,
    )
    import_weights(kind, source, output, trained_as, modalities=modalities, settings=set_ or [])
