"""One operator a modality, and the measurement of a whole patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from any2all_operators.errors import UserError
from any2all_operators.operator import Operator

Data = Mapping[str, Tensor]


class BlockDiagonal:
    """A = diag(A_1 ... A_M): stack (B, M, H, W) ↔ {modality: data}.

    The mapping's order is the order of the stack's channels. Every block is solved by itself: one
    weight for all would leave half of a clean image's error at weight 1.
    """

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self.operators = dict(operators)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.operators)

    def forward(self, stack: Tensor) -> dict[str, Tensor]:
        """A x: {modality: A_m x_m}."""
        self._expect(stack)
        return {name: op.forward(stack[:, m]) for m, (name, op) in self._enumerate()}

    def adjoint(self, data: Data) -> Tensor:
        """A* y, (B, M, H, W), 0 for a modality without data; some must have data."""
        there = {m: op.adjoint(data[m]) for m, op in self.operators.items() if data[m].numel()}
        nothing = torch.zeros_like(next(iter(there.values())))
        return torch.stack([there.get(name, nothing) for name in self.operators], 1)

    def prox(self, data: Data, anchor: Tensor, weight: Mapping[str, float]) -> Tensor:
        """argmin_u Σ_m weight_m/2 ‖A_m u_m − y_m‖² + 1/2 ‖u − anchor‖², (B, M, H, W)."""
        return self.prox_of(data)(anchor, weight)

    def prox_of(self, data: Data) -> Callable[[Tensor, Mapping[str, float]], Tensor]:
        """``prox`` of fixed data, (anchor, {modality: weight}) ↦ u."""
        of = {name: op.prox_of(data[name]) for name, op in self.operators.items()}

        def prox(anchor: Tensor, weight: Mapping[str, float]) -> Tensor:
            self._expect(anchor)
            blocks = [
                solve(anchor[:, m], weight[name]) for m, (name, solve) in enumerate(of.items())
            ]
            return torch.stack(blocks, 1)

        return prox

    def estimated(self, data: Data) -> BlockDiagonal:
        """The operators that a reconstruction may know; see :meth:`Operator.estimated`."""
        return BlockDiagonal(
            {name: op.estimated(data[name]) for name, op in self.operators.items()}
        )

    def near(self, data: Data, stack: Tensor) -> BlockDiagonal:
        """The linear operators that explain the data around a stack; see :meth:`Operator.near`."""
        self._expect(stack)
        return BlockDiagonal(
            {name: op.near(data[name], stack[:, m]) for m, (name, op) in self._enumerate()}
        )

    def select(self, index: Tensor) -> BlockDiagonal:
        """The operators of slices ``index`` (B,)."""
        return BlockDiagonal({name: op.select(index) for name, op in self.operators.items()})

    def to(self, device: torch.device | str) -> BlockDiagonal:
        """Every operator on a device."""
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
    """What is known of B slices: y = A x + n, as the operator and {modality: data (B, ...)}."""

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
        """The modalities that have none, in order."""
        return tuple(name for name, y in self.data.items() if not y.numel())

    def near(self, stack: Tensor) -> Measurement:
        """The same with the operators that explain the data around a stack (B, M, H, W)."""
        return Measurement(self.operator.near(self.data, stack), self.data)

    def residual(self, stack: Tensor) -> dict[str, Tensor]:
        """{modality: ‖y_m − A_m x_m‖ of each slice, (B,)} for a stack (B, M, H, W)."""
        norms: dict[str, Tensor] = {}
        for name, y in self.operator.forward(stack).items():
            if y.numel():
                gap = self.data[name] - y
                # torch takes the norm of complex numbers fifty times as slowly
                parts = torch.view_as_real(gap) if gap.is_complex() else gap
                norms[name] = parts.flatten(1).norm(dim=1)
        return norms
