"""One operator per modality, and the measurement of a whole patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from any2all_operators.errors import UserError
from any2all_operators.operator import Operator

Data = Mapping[str, Tensor]
"""{modality: its data (B, ...)}, of shape (B, 0) for a missing modality."""


class BlockDiagonal:
    """A = diag(A_1 ... A_M), from a stack (B, M, H, W) to {modality: data (B, ...)}.

    Every block has its own weight in :meth:`prox`. With one weight of 1 for all, half of a clean
    image's error would remain.

    Parameters
    ----------
    operators
        {modality: its operator}, in the order of the stack's channels.
    """

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self.operators = dict(operators)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.operators)

    def forward(self, stack: Tensor) -> dict[str, Tensor]:
        """Apply A.

        Parameters
        ----------
        stack
            x, (B, M, H, W).

        Returns
        -------
        dict
            {modality: A_m x_m, (B, ...)}.

        Raises
        ------
        UserError
            If the stack does not have M channels.
        """
        self._expect(stack)
        return {name: op.forward(stack[:, m]) for m, (name, op) in self._enumerate()}

    def adjoint(self, data: Data) -> Tensor:
        """Apply A*.

        Parameters
        ----------
        data
            {modality: y_m, (B, ...)}; at least one modality must have data.

        Returns
        -------
        Tensor
            A* y, (B, M, H, W), with 0 for missing modalities.
        """
        there = {m: op.adjoint(data[m]) for m, op in self.operators.items() if data[m].numel()}
        nothing = torch.zeros_like(next(iter(there.values())))
        return torch.stack([there.get(name, nothing) for name in self.operators], 1)

    def prox(self, data: Data, anchor: Tensor, weight: Mapping[str, float]) -> Tensor:
        """argmin_u Σ_m weight_m/2 ‖A_m u_m − y_m‖² + 1/2 ‖u − anchor‖².

        Parameters
        ----------
        data
            {modality: y_m, (B, ...)}.
        anchor
            (B, M, H, W).
        weight
            {modality: weight_m}, each at least 0 and possibly infinite; see :meth:`Operator.prox`.

        Returns
        -------
        Tensor
            u, (B, M, H, W).

        Raises
        ------
        UserError
            If the anchor does not have M channels.
        """
        return self.prox_of(data)(anchor, weight)

    def prox_of(self, data: Data) -> Callable[[Tensor, Mapping[str, float]], Tensor]:
        """:meth:`prox` for fixed data, as samplers use it in every step.

        Parameters
        ----------
        data
            {modality: y_m, (B, ...)}.

        Returns
        -------
        callable
            The function (anchor, {modality: weight}) ↦ u.
        """
        of = {name: op.prox_of(data[name]) for name, op in self.operators.items()}

        def prox(anchor: Tensor, weight: Mapping[str, float]) -> Tensor:
            self._expect(anchor)
            blocks = [
                solve(anchor[:, m], weight[name]) for m, (name, solve) in enumerate(of.items())
            ]
            return torch.stack(blocks, 1)

        return prox

    def estimated(self, data: Data) -> BlockDiagonal:
        """The operators as far as the data tells them; see :meth:`Operator.estimated`."""
        return BlockDiagonal(
            {name: op.estimated(data[name]) for name, op in self.operators.items()}
        )

    def near(self, data: Data, stack: Tensor) -> BlockDiagonal:
        """The operators linearised around a stack (B, M, H, W); see :meth:`Operator.near`."""
        self._expect(stack)
        return BlockDiagonal(
            {name: op.near(data[name], stack[:, m]) for m, (name, op) in self._enumerate()}
        )

    def select(self, index: Tensor) -> BlockDiagonal:
        """The operators of the slices ``index``, (B,)."""
        return BlockDiagonal({name: op.select(index) for name, op in self.operators.items()})

    def to(self, device: torch.device | str) -> BlockDiagonal:
        """A copy whose operators are all on ``device``."""
        return BlockDiagonal({name: op.to(device) for name, op in self.operators.items()})

    def _enumerate(self) -> enumerate[tuple[str, Operator]]:
        return enumerate(self.operators.items())

    def _expect(self, stack: Tensor) -> None:
        if stack.ndim != 4 or stack.shape[1] != len(self.operators):
            raise UserError(
                f"stack is {tuple(stack.shape)}; expected (batch, {len(self.operators)}, H, W) "
                f"for {', '.join(self.operators)}"
            )


@dataclass(frozen=True)
class Measurement:
    """The measurement y = A x + n of B slices.

    Parameters
    ----------
    operator
        A, with one block per modality.
    data
        y, {modality: data (B, ...)}; (B, 0) for a missing modality.
    """

    operator: BlockDiagonal
    data: Data

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    @property
    def known(self) -> tuple[str, ...]:
        """The modalities that have data, in order."""
        return tuple(name for name, y in self.data.items() if y.numel())

    @property
    def missing(self) -> tuple[str, ...]:
        """The modalities that have no data, in order."""
        return tuple(name for name, y in self.data.items() if not y.numel())

    def near(self, stack: Tensor) -> Measurement:
        """The same data with the operators linearised around a stack (B, M, H, W)."""
        return Measurement(self.operator.near(self.data, stack), self.data)

    def residual(self, stack: Tensor) -> dict[str, Tensor]:
        """Compute the data misfit of a stack.

        Parameters
        ----------
        stack
            x, (B, M, H, W).

        Returns
        -------
        dict
            {modality: ‖y_m − A_m x_m‖ of each slice, (B,)}, without the missing modalities.
        """
        norms: dict[str, Tensor] = {}
        for name, y in self.operator.forward(stack).items():
            if y.numel():
                gap = self.data[name] - y
                # torch's norm of complex numbers is fifty times slower
                parts = torch.view_as_real(gap) if gap.is_complex() else gap
                norms[name] = parts.flatten(1).norm(dim=1)
        return norms
