"""``any2all import``."""

from __future__ import annotations

from pathlib import Path

from any2all_app.folders import finished_folder
from any2all_app.grammar import modality_names, name_values, slice_size
from any2all_core.imported import import_prior
from any2all_core.prior_settings import Prediction
from any2all_core.schedule import Kind
from rich.console import Console
from rich.markup import escape


def run(
    kind: str,
    source: Path,
    output: Path,
    modalities: str,
    image_size: str | None,
    prediction: Prediction | None,
    schedule: Kind | None,
    diffusion_steps: int,
    settings: list[str],
) -> None:
    """Make a prior's folder of foreign weights."""
    names = modality_names(modalities)
    with finished_folder(output) as folder:
        prior = import_prior(
            kind,
            source,
            names,
            slice_size(image_size, "--image-size") if image_size else None,
            prediction,
            schedule,
            diffusion_steps,
            name_values(settings, "--set"),
        )
        prior.save(folder.path)
    made = prior.settings
    Console(stderr=True).print(
        escape(
            f"prior written to {output}: {', '.join(names)} at "
            f"{made.image_size[0]} x {made.image_size[1]}, predicts {made.prediction}, "
            f"{made.schedule} schedule of {made.diffusion_steps} steps"
        ),
        soft_wrap=True,
    )
