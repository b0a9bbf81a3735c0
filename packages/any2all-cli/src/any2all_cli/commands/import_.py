"""``any2all import``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    kind: Annotated[
        str,
        typer.Argument(
            help="Format of the weights: guided-diffusion, diffusers, or a network plugin's name"
        ),
    ],
    source: Annotated[Path, typer.Argument(help="File of weights, or a UNet2DModel's folder")],
    output: Annotated[Path, typer.Option(help="New folder for the prior")],
    modalities: Annotated[str, typer.Option(help="Modalities in channel order, as T1,FLAIR")],
    image_size: Annotated[
        str | None, typer.Option(help="ROWS,COLUMNS of a slice", show_default="the source's")
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(
            help="What the network predicts: epsilon, v or sample",
            show_default="the source's, or epsilon",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Noise schedule: cosine or linear", show_default="the source's"),
    ] = None,
    diffusion_steps: Annotated[
        int, typer.Option(min=2, help="Number T of diffusion steps the network was trained with")
    ] = 1000,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Setting that guided-diffusion weights do not state: num_head_channels=N, "
            "num_heads=N or use_new_attention_order=true; may be repeated",
        ),
    ] = None,
) -> None:
    """Turn network weights trained elsewhere into a prior."""
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
