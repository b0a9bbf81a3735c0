"""Low resolution: y = box averages of x + n; in one direction, thick sagittal or coronal slices."""

import math
from dataclasses import dataclass

from any2all_operators import Operator, UserError
from torch import Tensor


@dataclass(frozen=True)
class Superres(Operator):
    """Averages over ``rows`` x ``columns`` pixels: with one of them 1, slices thick that way."""

    rows: int = 1
    columns: int = 4
    noise_std: float = 0.01

    def forward(self, image: Tensor) -> Tensor:
        batch, height, width = image.shape
        if self.rows < 1 or self.columns < 1 or height % self.rows or width % self.columns:
            raise UserError(
                f"superres: {self.rows} x {self.columns} doesn't divide {height} x {width}"
            )
        boxes = image.view(batch, height // self.rows, self.rows, -1, self.columns)
        return boxes.mean((2, 4))

    def adjoint(self, data: Tensor) -> Tensor:
        wide = data.repeat_interleave(self.rows, 1).repeat_interleave(self.columns, 2)
        return wide / (self.rows * self.columns)

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        # A A* = 1/n, so (1 + weight A*A)⁻¹ A* = A* / (1 + weight/n)
        n = self.rows * self.columns
        gain = n if math.isinf(weight) else weight / (1 + weight / n)
        return anchor + gain * self.adjoint(data - self.forward(anchor))
