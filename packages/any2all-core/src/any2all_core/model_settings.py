"""What the weights of a prior or a method do not say: their images, and their training."""

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
    """The images that a model was trained on, and a record of its training, for people."""

    format: StackFormat
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in the order of the stack."""
        return self.format.names

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of a slice."""
        return self.format.size

    @property
    def steps(self) -> int:
        """The steps that it was trained for; 0 where nothing says so."""
        return int(self.training.get("steps", 0))

    @property
    def virtual(self) -> bool:
        """Whether it was trained on virtual people, who do not exist."""
        return bool(self.training.get("virtual"))

    @property
    def validation_error(self) -> float | None:
        """A method's own error on held-out slices; None where it was not validated."""
        return self.training.get("validation_error")

    @property
    def budget(self) -> dict[str, float | None]:
        """Steps, images and seconds of its training; None where nothing says so."""
        return {name: self.training.get(name) for name in ("steps", "images", "seconds")}

    @property
    def nearness(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        """{given: {missing: PSNR in dB of one draw, and of a copy of the given image}}.

        On people it was not trained on; empty where that was not measured.
        """
        found = self.training.get("missing", {})
        return {g: {m: (two[0], two[1]) for m, two in of.items()} for g, of in found.items()}


def images_of(told: dict[str, Any]) -> StackFormat:
    """The images that a file tells of, whose keys are taken out of ``told``.

    Format 1 has ``modalities``, ``image_size``, ``normalisation`` and ``training.grid`` in the
    place of ``images``. Raises AttributeError, KeyError, TypeError, ValueError or UserError.
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
