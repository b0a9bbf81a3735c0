"""The base class of forward models."""

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

    An image is real, (B, H, W) in [0, 1]; data is (B, ...), real or complex. A subclass implements
    ``forward`` and ``adjoint``. By default ``prox`` uses conjugate gradients; a subclass with a
    closed form overrides it. :func:`check_operator` tests all three.

    Attributes
    ----------
    noise_std
        Standard deviation of one real component of n, on the image scale.
    complex_image
        Whether the image is complex, as in MRI. A stack holds real images, so there such an
        operator is wrapped in an :class:`UnknownPhase`.
    """

    noise_std: float = 0.0
    complex_image: bool = False

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """A x: from an image (B, H, W) to data (B, ...)."""

    @abstractmethod
    def adjoint(self, data: Tensor) -> Tensor:
        """A* y: from data (B, ...) to an image (B, H, W), with Re⟨A x, y⟩ = Re⟨x, A* y⟩."""

    def image(self, data: Tensor) -> Tensor | None:
        """The data as an image x + n with white noise n, if it is one; by default it is not.

        A prior with a separate noise level per modality conditions directly on such an image.

        Parameters
        ----------
        data
            y, (B, ...).

        Returns
        -------
        Tensor or None
            x + n, (B, H, W), with noise of ``noise_std``; None if the data is not such an image.
        """
        return None

    def normal(self, image: Tensor) -> Tensor:
        """A* A x, (B, H, W)."""
        return self.adjoint(self.forward(image))

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        """argmin_u weight/2 ‖A u − y‖² + 1/2 ‖u − anchor‖², independently for each image.

        The default implementation uses conjugate gradients.

        Parameters
        ----------
        data
            y, (B, ...).
        anchor
            (B, H, W).
        weight
            At least 0. With an infinite weight, u is the image nearest to ``anchor`` among those
            that fit the data best.

        Returns
        -------
        Tensor
            u, (B, H, W).
        """
        return solve_prox(self.normal, self.adjoint(data), anchor, weight)

    def prox_of(self, data: Tensor) -> Prox:
        """:meth:`prox` for fixed data, as samplers use it in every step.

        A subclass overrides it if some of the work depends on the data alone and can be done once.

        Parameters
        ----------
        data
            y, (B, ...).

        Returns
        -------
        callable
            The function (anchor, weight) ↦ u.
        """
        return lambda anchor, weight: self.prox(data, anchor, weight)

    def estimated(self, data: Tensor) -> Operator:
        """The operator that a reconstruction uses; by default this one.

        It differs if this operator holds quantities that are known only in a simulation.

        Parameters
        ----------
        data
            y, (B, ...), from which such quantities are estimated.

        Returns
        -------
        Operator
            The operator without quantities that only a simulation knows.
        """
        return self

    def near(self, data: Tensor, image: Tensor) -> Operator:
        """The linear operator that explains the data near an image; by default this one.

        It differs if something besides the image is unknown; see :class:`UnknownPhase`.

        Parameters
        ----------
        data
            y, (B, ...).
        image
            (B, H, W) in [0, 1].

        Returns
        -------
        Operator
            The linear operator.
        """
        return self

    def check(self, data: Tensor, modality: str) -> None:
        """Check that data can be a measurement of images in [0, 1].

        The default checks that the data is finite. Subclasses check more, such as the shape.

        Parameters
        ----------
        data
            y, (B, ...).
        modality
            Name of the modality in the error message.

        Raises
        ------
        UserError
            If the data cannot be such a measurement.
        """
        if not bool(torch.isfinite(data.abs()).all()):
            raise UserError(f"{modality}: its data holds NaN or infinity; mend it first")

    def select(self, index: Tensor) -> Operator:
        """The operator of the slices ``index``, (B,); this one if all slices share it."""
        return self

    def to(self, device: torch.device | str) -> Self:
        """This operator on ``device``: every attribute with a method ``to`` is moved there."""
        movable = {n: v for n, v in vars(self).items() if callable(getattr(v, "to", None))}
        moved = {name: value.to(device) for name, value in movable.items()}
        if all(moved[name] is movable[name] for name in moved):
            return self  # keeps its cached properties
        there = copy.copy(self)
        vars(there).update(moved)
        return there

    def noise(self, data: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw the noise n of a measurement.

        Parameters
        ----------
        data
            A x, (B, ...).
        generators
            One generator for each of the B entries.

        Returns
        -------
        Tensor
            n, (B, ...), of the type of ``data``.
        """
        draws = [torch.randn(data.shape[1:], dtype=data.dtype, generator=g) for g in generators]
        # a complex torch.randn has variance 1/2 in each real component
        scale = self.noise_std * (2**0.5 if data.is_complex() else 1.0)
        return scale * torch.stack(draws).to(data.device)

    def data_size(self, data: Tensor) -> int:
        """The number of real numbers in one entry of data (B, ...)."""
        return data[0].numel() * (2 if data.is_complex() else 1)

    def measure(self, image: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Simulate a measurement of images.

        Parameters
        ----------
        image
            x, (B, H, W) in [0, 1].
        generators
            One generator for the noise of each of the B entries.

        Returns
        -------
        Tensor
            A x + n, (B, ...).
        """
        data = self.forward(image)
        return data + self.noise(data, generators) if self.noise_std else data


def check_noise_std(noise_std: float) -> None:
    """Raise UserError unless ``noise_std`` is finite and at least 0."""
    if not 0 <= noise_std < math.inf:
        raise UserError(f"noise_std {noise_std}: expected at least 0, on the [0, 1] image scale")
