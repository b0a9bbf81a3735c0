"""The metrics of SynthRAD and BraSyn, against other ways to compute them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from any2all_eval.challenges import SCALES, Array, brasyn, synthrad
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

Q = 4024.0


def volume(seed: int, shape: tuple[int, ...] = (10, 12, 11)) -> Array:
    return np.random.default_rng(seed).uniform(-1500, 3500, shape)


def body(shape: tuple[int, ...] = (10, 12, 11)) -> Any:
    mask = np.zeros(shape, bool)
    mask[2:-1, 1:-2, 3:] = True
    return mask


def test_synthrads_error_and_psnr_by_hand() -> None:
    """Four voxels, three in the mask: MAE of HU as they are, PSNR of HU within the range."""
    truth = np.array([[[0.0, 100.0, -1024.0, 3500.0]]])
    image = np.array([[[50.0, 100.0, -1100.0, -500.0]]])
    found = synthrad(image, truth, np.array([[[True, True, True, False]]]))
    assert found["synthrad_mae"] == pytest.approx((50 + 0 + 76) / 3)
    assert found["synthrad_psnr"] == pytest.approx(10 * math.log10(Q**2 / (50**2 / 3)))
    assert "synthrad_ssim" not in found  # too thin for a window


def test_synthrads_ssim_window_by_window() -> None:
    """As defined: mean, sample variance and covariance of each window of 7 x 7 x 7 voxels."""
    truth, mask = volume(0), body()
    image = truth + np.random.default_rng(1).normal(0, 300, truth.shape)
    found = synthrad(image, truth, mask)["synthrad_ssim"]
    u, x = (np.where(mask, np.clip(v, -1024, 3000), -1024) + 1024 for v in (image, truth))
    values = []
    places = np.argwhere(mask)
    for z, h, w in places[((places >= 3) & (places < np.array(mask.shape) - 3)).all(1)]:
        near = (slice(z - 3, z + 4), slice(h - 3, h + 4), slice(w - 3, w + 4))
        (vu, vux), (_, vx) = np.cov(u[near].ravel(), x[near].ravel())
        mu, mx = u[near].mean(), x[near].mean()
        c1, c2 = (0.01 * Q) ** 2, (0.03 * Q) ** 2
        values.append((2 * mu * mx + c1) * (2 * vux + c2) / ((mu**2 + mx**2 + c1) * (vu + vx + c2)))
    assert len(values) > 50
    assert found == pytest.approx(np.mean(values), rel=1e-9)


def multiscale(u: Tensor, x: Tensor, mask: Tensor) -> float:
    """MS-SSIM by luminance, contrast and structure, of (1, 1, Z, H, W) from 0 up, by pooling."""

    def mean(v: Tensor) -> Tensor:
        v = v[0, 0]
        for axis in range(3):  # mirrored with the edge twice
            n = v.shape[axis]
            ends = [*range(2, -1, -1), *range(n), *range(n - 1, n - 4, -1)]
            v = v.index_select(axis, torch.tensor(ends))
        return F.avg_pool3d(v[None, None], 7, 1)

    short = [max(97 - n, 0) for n in u.shape[2:]]
    pad = [side for n in reversed(short) for side in (n // 2, n - n // 2)]
    u, x, mask = (F.pad(v, pad, mode="replicate") for v in (u, x, mask))
    product, c1, c2 = 1.0, (0.01 * Q) ** 2, (0.03 * Q) ** 2
    for weight in SCALES:
        mu, mx, factor = mean(u), mean(x), 343 / 342
        vu, vx = (factor * (mean(v * v) - m**2).clamp(min=0) for v, m in ((u, mu), (x, mx)))
        both, across = (vu * vx).sqrt(), factor * (mean(u * x) - mu * mx)
        terms = (
            (2 * mu * mx + c1) / (mu**2 + mx**2 + c1),
            (2 * both + c2) / (vu + vx + c2),
            (across + c2 / 2) / (both + c2 / 2),
        )
        similar = math.prod(term.clamp(min=0) ** weight for term in terms)
        assert isinstance(similar, Tensor)
        inner = (slice(None), slice(None), *3 * (slice(3, -3),))
        product *= float(similar[inner][mask[inner] > 0].mean().clamp(0, 1))
        kernel = torch.full((1, 1, 2, 2, 2), 0.125, dtype=torch.float64)
        u, x = (F.conv3d(F.pad(v, (1, 0) * 3), kernel, stride=2) for v in (u, x))
        mask = mask[..., ::2, ::2, ::2]
    return product


@pytest.mark.slow
def test_synthrads_ms_ssim_by_its_three_terms() -> None:
    """Of a thin volume, which is padded, and one side longer than 97 voxels."""
    shape = (7, 20, 99)
    rng = np.random.default_rng(3)
    truth = np.cumsum(rng.normal(0, 60, shape), 2)
    image = truth + rng.normal(0, 200, shape) + 100
    mask = np.zeros(shape, bool)
    mask[:, 2:-2, 5:-5] = True
    found = synthrad(image, truth, mask)["synthrad_ms_ssim"]
    u, x = (np.where(mask, np.clip(v, -1024, 3000), -1024) + 1024 for v in (image, truth))
    tensors = (torch.from_numpy(v)[None, None].double() for v in (u, x, mask))
    assert found == pytest.approx(multiscale(*tensors), rel=1e-7)
    assert 0.5 < found < 0.99


def test_a_mask_that_vanishes_on_a_coarse_scale_has_no_ms_ssim() -> None:
    truth, mask = volume(4, (100, 100, 100)), np.zeros((100, 100, 100), bool)
    mask[31, 31, 31] = True
    found = synthrad(truth, truth, mask)
    assert "synthrad_ms_ssim" not in found
    assert found["synthrad_ssim"] == pytest.approx(1)


def test_brasyns_ssim_by_torchmetrics() -> None:
    """Normalised apart, masked, and averaged within each region; brightness does not matter."""
    rng = np.random.default_rng(5)
    truth = np.abs(np.cumsum(rng.normal(0, 30, (12, 14, 13)), 1)) - 20
    image = truth + rng.normal(0, 30, truth.shape)
    mask = np.zeros(truth.shape, bool)
    mask[3:8, 4:9, 5:11] = True
    found = brasyn(image, truth, mask)

    def scaled(v: Array) -> Tensor:
        low, high = np.percentile(v, [0.5, 99.5])
        return torch.from_numpy(
            (np.clip(v, max(low, 0), high) - max(low, 0)) / (high - max(low, 0))
        )

    for name, region in (("tumour", mask), ("rest", ~mask)):
        marked = torch.from_numpy(region)
        _, full = structural_similarity_index_measure(
            (scaled(image) * marked)[None, None],
            (scaled(truth) * marked)[None, None],
            return_full_image=True,
        )
        assert found[f"brasyn_ssim_{name}"] == pytest.approx(float(full[0, 0][marked].mean()))
    assert found["brasyn_ssim_tumour"] != pytest.approx(found["brasyn_ssim_rest"], abs=1e-3)
    assert brasyn(3 * image, truth, mask) == pytest.approx(found)
    assert set(brasyn(image, truth, np.zeros_like(mask))) == {"brasyn_ssim_rest"}


@pytest.mark.parametrize("score", [synthrad, brasyn])
def test_the_truth_itself_is_perfect(score: Any) -> None:
    found = score(volume(6), volume(6), body())
    assert len(found) >= 2
    for name, value in found.items():
        expected = {"synthrad_mae": 0.0, "synthrad_psnr": math.inf}.get(name, 1.0)
        assert value == pytest.approx(expected)
