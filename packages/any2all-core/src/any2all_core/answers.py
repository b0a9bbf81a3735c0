"""A trained method as a solver of measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from any2all_operators import Identity, Measurement, Operator, UserError
from torch import Tensor

from any2all_core.fitted import FittedMethod
from any2all_core.method import MethodSettings
from any2all_core.noise import Noise
from any2all_core.sampler import Step
from any2all_core.stack_format import StackFormat


@dataclass(frozen=True)
class Answers:
    """A fitted method as a solver of measurements of ``modalities``, of which it may know more.

    ``dc``: whether a reconstruction is made to agree with its scan by one exact step, which weighs
    the scan's noise against the method's own error on held-out slices.
    """

    fitted: FittedMethod
    modalities: tuple[str, ...]
    dc: bool = False

    @property
    def name(self) -> str:
        """Of the method."""
        return self.fitted.name

    @property
    def settings(self) -> MethodSettings:
        """Those of the method."""
        return self.fitted.settings

    @property
    def format(self) -> StackFormat:
        """The images of its modalities."""
        return self.settings.format.select(self.modalities)

    @property
    def device(self) -> torch.device:
        return self.fitted.device

    @property
    def steps(self) -> int:
        """Network calls of an answer."""
        return self.fitted.method.calls

    @property
    def random(self) -> bool:
        """Whether two seeds give two answers."""
        return self.fitted.method.random

    def can(
        self, clean: Sequence[str], scans: Mapping[str, Operator], wanted: Sequence[str]
    ) -> bool:
        """Whether it answers with the images ``wanted``, of clean ones and of scans."""
        method = self.fitted.method
        if not scans:
            return ("synthesis" if clean else "generation") in method.abilities
        return (
            set(scans) <= set(method.targets())
            and len(scans) == 1
            and all(method.takes(operator) for operator in scans.values())
            and set(wanted) <= set(self.fitted.answered([*clean, *scans]))
        )

    def __call__(
        self, measurement: Measurement, noise: Noise, progress: Step | None = None
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]. Raises UserError where the method can't answer."""
        everything, data = self.fitted.modalities, measurement.data
        clean, scans = split(measurement)
        if len(scans) > 1:
            raise UserError(
                f"method {self.fitted.name} takes one scan, given were those of "
                f"{', '.join(scans)}; take a prior"
            )
        count, height, width = noise.shape
        shape = (len(measurement), len(everything), height, width)
        given = torch.zeros(shape, device=self.device)
        for m in clean:
            given[:, everything.index(m)] = data[m]
        if count != len(everything):
            size = (len(everything), height, width)
            noise = Noise(noise.generators, size, noise.device, noise.mixing)
        if scans:
            (target,) = scans
            operator = measurement.operator.operators[target]
            stack = self.fitted.recover(
                data[target], operator, target, given=given, available=clean, noise=noise
            )
            if self.dc:
                k = everything.index(target)
                stack[:, k] = self._agreeing(operator, data[target], stack[:, k])
        else:
            stack = self.fitted.complete(given, clean, noise)
        if progress is not None:
            for _ in range(self.steps):
                progress()
        return stack[:, [everything.index(m) for m in self.modalities]]

    def _agreeing(self, operator: Operator, data: Tensor, image: Tensor) -> Tensor:
        error = self.fitted.settings.validation_error
        if error is None:
            raise UserError(
                f"dc=true: method {self.fitted.name} was never validated, so its error is not "
                "known; train it to its end"
            )
        noise_std = operator.noise_std
        weight = (error / noise_std) ** 2 if noise_std else float("inf")
        return operator.near(data, image).prox(data, image, weight).clamp(0, 1)


def split(measurement: Measurement) -> tuple[list[str], list[str]]:
    """The modalities that are known clean, and those that were measured otherwise."""
    blocks = measurement.operator.operators
    clean = [m for m in measurement.known if blocks[m] == Identity()]
    return clean, [m for m in measurement.known if m not in clean]
