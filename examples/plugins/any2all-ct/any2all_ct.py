"""Sparse-view CT: y = P x + n, line integrals through the image in parallel beams."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import astra
import numpy as np
import torch
from any2all_operators import Operator
from torch import Tensor


@dataclass(frozen=True)
class SparseViewCT:
    """Parallel beams in ``views`` directions over 180°; line integrals over the image's width."""

    views: int = 45
    noise_std: float = 0.005

    def build(self, height: int, width: int) -> Operator:
        angles = np.arange(self.views) * math.pi / self.views
        rays = math.ceil(math.hypot(height, width))
        beams = astra.create_proj_geom("parallel", 1.0, rays, angles)
        projector = astra.create_projector("linear", beams, astra.create_vol_geom(height, width))
        matrix = astra.matrix.get(astra.projector.matrix(projector)) / max(height, width)
        shape, data_shape = (height, width), (self.views, rays)
        return Projector(csr(matrix), csr(matrix.T), shape, data_shape, self.noise_std)


def csr(matrix: Any) -> Tensor:
    matrix = matrix.tocsr().astype(np.float32)
    starts, columns, values = map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():  # torch calls its sparse tensors a beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(starts, columns, values, size=matrix.shape)


@dataclass(frozen=True, eq=False)
class Projector(Operator):
    """matrix (views · rays, H · W), sparse, and its transpose; data (B, views, rays)."""

    matrix: Tensor
    transpose: Tensor
    image_size: tuple[int, int]
    data_shape: tuple[int, int]
    noise_std: float = 0.0

    def forward(self, image: Tensor) -> Tensor:
        return (self.matrix @ image.flatten(1).T).T.reshape(-1, *self.data_shape)

    def adjoint(self, data: Tensor) -> Tensor:
        return (self.transpose @ data.flatten(1).T).T.reshape(-1, *self.image_size)
