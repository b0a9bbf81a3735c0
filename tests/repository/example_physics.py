"""What the example plugins measure, against its definition; run where they are installed."""

import math
from typing import Any

import torch
from any2all_ct import SparseViewCT
from any2all_deblur import Deblur
from any2all_radial import Radial
from any2all_superres import Superres

torch.manual_seed(0)

# k-space along a spoke: Σ_r s_c(r) x(r) exp(−i k·r) / √HW, r from the centre of the image
image = torch.rand(1, 16, 12)
radial: Any = Radial(spokes=3, coils=2).build(16, 12)
y, x = torch.meshgrid(torch.arange(16.0) - 8, torch.arange(12.0) - 6, indexing="ij")
wave = torch.exp(-1j * (radial.points[0, :, None, None] * y + radial.points[1, :, None, None] * x))
direct = torch.einsum("chw,khw->ck", radial.coil_maps * image, wave) / math.sqrt(16 * 12)
assert torch.allclose(radial.forward(image)[0], direct, atol=1e-4)
assert torch.allclose(radial.normal(image), radial.adjoint(radial.forward(image)), atol=1e-4)

# the rays through the middle of a disc are its diameter, over the image's width, from every view
y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
disc = ((x**2 + y**2) < 20**2).float()[None]
sinogram = SparseViewCT(views=12).build(64, 64).forward(disc)[0]
middle = sinogram.shape[1] // 2
assert torch.allclose(sinogram[:, middle], torch.tensor(2 * 20 / 64), rtol=0.05)
assert float(sinogram[:, : middle - 22].abs().max()) == 0

# the variance of a blurred point is sigma², or length²/12 along the motion and 0 across it
point = torch.zeros(1, 64, 64)
point[0, 32, 32] = 1
y, x = torch.meshgrid(torch.arange(64.0) - 32, torch.arange(64.0) - 32, indexing="ij")
round_ = Deblur(sigma=2.0).forward(point)[0]
assert abs(float((round_ * x**2).sum()) - 4) < 0.05
assert abs(float((round_ * y**2).sum()) - 4) < 0.05
upwards = Deblur(kind="motion", length=9, angle=90).forward(point)[0]
assert float(upwards[:, :31].abs().max()) < 1e-5
assert abs(float(upwards[28:37, 32].sum()) - 1) < 0.1

# a thick slice is the mean of the thin ones in it
assert torch.allclose(
    Superres(rows=4, columns=1).forward(image)[0, 1], image[0, 4:8].mean(0), atol=1e-6
)
