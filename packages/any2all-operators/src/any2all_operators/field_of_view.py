"""A scan whose field of view differs from that of the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from any2all_operators.around import Around
from any2all_operators.conjugate_gradient import solve_prox
from any2all_operators.operator import Operator, Prox


@dataclass(frozen=True, eq=False)
class FieldOfView(Around):
    """y = B C x + n: the scan B measures the window C around the centre of the image.

    Parameters
    ----------
    scan
        B, an operator on images (h, w) with the same pixel size as the image.
    scan_size
        (h, w) in pixels. Along an axis where the window is smaller than the image, the rest of the
        image is not measured. Where it is larger, the image is padded with 0.
    image_size
        (H, W) in pixels.
    """

    scan: Operator
    scan_size: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def complex_image(self) -> bool:  # type: ignore[override]
        return self.scan.complex_image

    def select(self, index: Tensor) -> FieldOfView:
        return FieldOfView(self.scan.select(index), self.scan_size, self.image_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.scan.forward(fit(image, self.scan_size))

    def adjoint(self, data: Tensor) -> Tensor:
        return fit(self.scan.adjoint(data), self.image_size)

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        return self.prox_of(data)(anchor, weight)

    def prox_of(self, data: Tensor) -> Prox:
        """The scan's ``prox_of`` inside the window, and the anchor outside.

        For a window larger than the image, it is found by conjugate gradients.
        """
        if any(n > N for n, N in zip(self.scan_size, self.image_size, strict=True)):
            back = self.adjoint(data)
            return lambda anchor, weight: solve_prox(self.normal, back, anchor, weight)
        window = torch.ones(self.scan_size, dtype=torch.bool, device=data.device)
        window = fit(window, self.image_size)
        scan = self.scan.prox_of(data)

        def prox(anchor: Tensor, weight: float) -> Tensor:
            seen = scan(fit(anchor, self.scan_size), weight)
            return torch.where(window, fit(seen, self.image_size), anchor)

        return prox


def fit(array: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop or zero-pad the last two axes about their centre, n // 2."""
    pads: list[int] = []
    for has, wanted in zip(reversed(array.shape[-2:]), reversed(size), strict=True):
        before = wanted // 2 - has // 2
        pads += [before, wanted - has - before]
    return F.pad(array, pads)
