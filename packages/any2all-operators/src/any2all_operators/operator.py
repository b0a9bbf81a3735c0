"""What a forward model is, and the least it must bring."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from any2all_operators.conjugate_gradient import solve_prox
from any2all_operators.errors import UserError

if TYPE_CHECKING:
    from typing import Self

Prox = Callable[[Tensor, float], Tensor]


class Operator(ABC):
    """A linear forward model y = A x + n of one modality.

    An image is real, (B, H, W) in [0, 1]; data is (B, ...), real or complex. A subclass gives
    ``forward`` and ``adjoint``; ``prox`` then works by conjugate gradients, and is overridden where
    there is a closed form. :func:`check_operator` tests all three.

    Attributes
    ----------
    noise_std
        Standard deviation of one real component of n, on the image scale.
    complex_image
        Whether the image is complex, as in MRI. In a stack such an operator stands as an
        :class:`UnknownPhase`.
    """

    noise_std: float = 0.0
    complex_image: bool = False

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """A x: image (B, H, W) to data (B, ...)."""

    @abstractmethod
    def adjoint(self, data: Tensor) -> Tensor:
        """A* y: data (B, ...) to an image (B, H, W), with Re⟨A x, y⟩ = Re⟨x, A* y⟩."""

    def image(self, data: Tensor) -> Tensor | None:
        """x + n with n white of ``noise_std``, (B, H, W), where data is that; here None.

        A prior with a noise level for each modality takes such an image as it is.
        """
        return None

    def normal(self, image: Tensor) -> Tensor:
        """A* A x, (B, H, W)."""
        return self.adjoint(self.forward(image))

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        """argmin_u weight/2 ‖A u − y‖² + 1/2 ‖u − anchor‖², for each image by itself.

        Here it is found by conjugate gradients.

        Parameters
        ----------
        data
            y, (B, ...).
        anchor
            (B, H, W).
        weight
            At least 0. It may be infinite: the image nearest to ``anchor`` among those that fit the
            data best.

        Returns
        -------
        Tensor
            u, (B, H, W).
        """
        return solve_prox(self.normal, self.adjoint(data), anchor, weight)

    def prox_of(self, data: Tensor) -> Prox:
        """``prox`` of fixed data, (anchor, weight) ↦ u, for the many steps of a sampler.

        To override where something of the data can be worked out once for all.
        """
        return lambda anchor, weight: self.prox(data, anchor, weight)

    def estimated(self, data: Tensor) -> Operator:
        """What of this operator its own data tells, for a reconstruction; here all of it.

        Another one where a simulation knows what no scan would say.
        """
        return self

    def near(self, data: Tensor, image: Tensor) -> Operator:
        """The linear operator that explains the data around ``image`` (B, H, W); here itself.

        Another one where something besides the image is not known: see :class:`UnknownPhase`.
        """
        return self

    def check(self, data: Tensor, modality: str) -> None:
        """Raise UserError where data (B, ...) can't be a measurement of images in [0, 1].

        Here: where it is not finite. An operator that knows more of its data says more.
        """
        if not bool(torch.isfinite(data.abs()).all()):
            raise UserError(f"{modality}: its data holds NaN or infinity; mend it first")

    def select(self, index: Tensor) -> Operator:
        """The operator of slices ``index`` (B,); itself, unless slices differ in it."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """This operator with all of its attributes that have a ``to`` on a device."""
        movable = {n: v for n, v in vars(self).items() if callable(getattr(v, "to", None))}
        moved = {name: value.to(device) for name, value in movable.items()}
        if all(moved[name] is movable[name] for name in moved):
            return self  # and what it has worked out stays with it
        there = copy.copy(self)
        vars(there).update(moved)
        return there

    def noise(self, data: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Noise n shaped like data (B, ...), one generator for each of the B entries."""
        draws = [torch.randn(data.shape[1:], dtype=data.dtype, generator=g) for g in generators]
        # a complex torch.randn has variance 1/2 in each real component
        scale = self.noise_std * (2**0.5 if data.is_complex() else 1.0)
        return scale * torch.stack(draws).to(data.device)

    def data_size(self, data: Tensor) -> int:
        """How many real numbers one entry of data (B, ...) holds."""
        return data[0].numel() * (2 if data.is_complex() else 1)

    def measure(self, image: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """A simulated measurement A x + n, (B, ...)."""
        data = self.forward(image)
        return data + self.noise(data, generators) if self.noise_std else data


def check_noise_std(noise_std: float) -> None:
    """Raise UserError unless it is a finite number of at least 0."""
    if not 0 <= noise_std < math.inf:
        raise UserError(f"noise_std {noise_std}: expected at least 0, on the [0, 1] image scale")
