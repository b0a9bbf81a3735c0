"""Settings stored beside the weights of a prior or a method: its images and its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from any2all_core.stack_format import (
    StackFormat,
    grid_of,
    modality_of_normalisation,
    size_of,
)


@dataclass(frozen=True)
class ModelSettings:
    """Settings that priors and methods share.

    Parameters
    ----------
    format
        The images that the model was trained on.
    training
        A human-readable record of the training.
    """

    format: StackFormat
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the stack."""
        return self.format.names

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of a slice in pixels."""
        return self.format.size

    @property
    def steps(self) -> int:
        """Number of training steps; 0 if the record does not have it."""
        return int(self.training.get("steps", 0))

    @property
    def virtual(self) -> bool:
        """Whether the model was trained on virtual people, who do not exist."""
        return bool(self.training.get("virtual"))

    @property
    def validation_error(self) -> float | None:
        """Root mean square error of a method on held-out slices; None if it was not validated."""
        return self.training.get("validation_error")

    @property
    def budget(self) -> dict[str, float | None]:
        """Steps, images and seconds of the training; None if the record does not have them."""
        return {name: self.training.get(name) for name in ("steps", "images", "seconds")}

    @property
    def nearness(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        """{given: {missing: PSNR in dB of one draw, and of a copy of the given image}}.

        Measured on people outside the training set; empty if it was not measured.
        """
        found = self.training.get("missing", {})
        return {g: {m: (two[0], two[1]) for m, two in of.items()} for g, of in found.items()}

    @property
    def looks(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        """{modality: {name: usual range}}, the looks of the training patients' images.

        See ``any2all_data.appearance``. Empty if they were not measured.
        """
        found = self.training.get("looks", {})
        return {m: {name: (r[0], r[1]) for name, r in of.items()} for m, of in found.items()}


def images_of(told: dict[str, Any]) -> StackFormat:
    """Read the description of the images from a file's content, and remove its keys from ``told``.

    Format 1 has ``modalities``, ``image_size``, ``normalisation`` and ``training.grid`` instead of
    ``images``. Raises AttributeError, KeyError, TypeError, ValueError or UserError.
    """
    if "images" in told:
        return StackFormat.from_json(told.pop("images"))
    normalisation = told.pop("normalisation", {})
    names = tuple(told.pop("modalities"))
    training = dict(told.get("training", {}))
    told["training"] = {name: value for name, value in training.items() if name != "grid"}
    return StackFormat(
        tuple(modality_of_normalisation(name, normalisation.get(name, {})) for name in names),
        size_of(told.pop("image_size")),
        grid_of(training.get("grid")),
    )
