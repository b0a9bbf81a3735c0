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
    """A trained method as a solver of measurements.

    Parameters
    ----------
    fitted
        The trained method.
    modalities
        Modalities of the measurements; a subset of those of the method.
    dc
        Data consistency: whether one exact proximal step moves a reconstruction to its scan. The
        step weighs the noise of the scan against the method's error on held-out slices.
    """

    fitted: FittedMethod
    modalities: tuple[str, ...]
    dc: bool = False

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.fitted.name

    @property
    def settings(self) -> MethodSettings:
        """Settings of the method."""
        return self.fitted.settings

    @property
    def format(self) -> StackFormat:
        """Format of the images of ``modalities``."""
        return self.settings.format.select(self.modalities)

    @property
    def device(self) -> torch.device:
        return self.fitted.device

    @property
    def steps(self) -> int:
        """Number of network calls for one answer."""
        return self.fitted.method.calls

    @property
    def random(self) -> bool:
        """Whether the answer depends on the seed."""
        return self.fitted.method.random

    def can(
        self, clean: Sequence[str], scans: Mapping[str, Operator], wanted: Sequence[str]
    ) -> bool:
        """Whether the method makes the images ``wanted`` from clean ones and scans."""
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
        """Complete a measurement.

        Parameters
        ----------
        measurement
            The measurement of B slices, with at most one scan.
        noise
            Source of N(0, 1) noise (B, M, H, W).
        progress
            Called ``steps`` times, after the network calls.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].

        Raises
        ------
        UserError
            If the method cannot answer this measurement.
        """
        everything, data = self.fitted.modalities, measurement.data
        clean, scans = split(measurement)
        if len(scans) > 1:
            raise UserError(
                f"method {self.fitted.name} takes one scan, not those of {', '.join(scans)}; take "
                "a prior"
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
    """The modalities given as clean images, and those measured in any other way."""
    blocks = measurement.operator.operators
    clean = [m for m in measurement.known if blocks[m] == Identity()]
    return clean, [m for m in measurement.known if m not in clean]
