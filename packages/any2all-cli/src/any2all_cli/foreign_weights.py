"""``any2all import``."""

from __future__ import annotations

from pathlib import Path

from any2all_app.folders import finished_folder
from any2all_app.grammar import modality_names, name_values
from any2all_core.foreign_weights import TrainedAs, import_prior
from rich.console import Console
from rich.markup import escape


def import_weights(
    kind: str,
    source: Path,
    output: Path,
    trained_as: TrainedAs,
    *,
    modalities: str,
    settings: list[str],
) -> None:
    """Turn foreign weights into a prior's folder."""
    names = modality_names(modalities)
    with finished_folder(output) as folder:
        options = name_values(settings, "--set")
        prior = import_prior(kind, source, names, trained_as, options=options)
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
