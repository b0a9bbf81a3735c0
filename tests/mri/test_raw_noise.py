"""The noise of raw k-space: its estimate, for each slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_mri import KSpace, birdcage_maps
from any2all_mri.noise_level import noise_stds
from any2all_mri.raw import RawKSpace
from any2all_operators import SenseFourier
from builders.raw_data import HEIGHT, NOISE, SLICES, WIDTH, images, lines, scan, smooth_phase
from builders.raw_defects import error


def test_noise_is_never_0(tmp_path: Path) -> None:
    np.save(tmp_path / "T1.npy", scan(lines(), noise=0))
    assert KSpace().read(tmp_path / "T1.npy", HEIGHT, WIDTH).operator.noise_std >= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("snr", [5, 20, 100, 500])
@pytest.mark.parametrize("width_of_centre", [12, 16, 24])
@pytest.mark.parametrize("coils", [4, 8])
def test_noise_is_found_within_a_fifth(snr: float, width_of_centre: int, coils: int) -> None:
    """SNR: the mean of the head over the noise_std of the image, Σ_c |s_c|² being 1.

    The air is not empty, as in a real image; what is in it is measured by all coils.
    """
    truth = images() + 0.03 * torch.rand(
        SLICES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(9)
    )
    std = float(truth[truth > 0.1].mean()) / snr
    mask = lines(width_of_centre)
    maps = birdcage_maps(coils, HEIGHT, WIDTH) * torch.exp(1j * smooth_phase())
    generators = [torch.Generator().manual_seed(k) for k in range(SLICES)]
    y = SenseFourier(maps, mask, std).measure(truth, generators).numpy()
    raw = RawKSpace(y, np.broadcast_to(mask.numpy(), (HEIGHT, WIDTH)))
    np.testing.assert_allclose(noise_stds(raw), std, rtol=0.2)


def test_slices_may_have_noise_of_their_own(tmp_path: Path) -> None:
    y = scan(lines())
    y[1] = scan(lines(), noise=4 * NOISE)[1]
    np.save(tmp_path / "T1.npy", y)
    measured = KSpace().read(tmp_path / "T1.npy", HEIGHT, WIDTH)
    found = np.array(measured.details["noise_std_of_slices"]) * measured.scale
    np.testing.assert_allclose(found, [NOISE, 4 * NOISE], rtol=0.2)
    # data and maps are scaled alike, so that the noise of both slices is the one of the operator
    scales = measured.data.abs().amax((1, 2, 3)) / torch.from_numpy(y).abs().amax((1, 2, 3))
    noise = scales * measured.scale * torch.from_numpy(found)
    assert float(noise[0] / noise[1]) == pytest.approx(1, rel=1e-4)
    assert float(noise[0]) == pytest.approx(measured.operator.noise_std * measured.scale, rel=1e-4)
    assert error(measured) < 0.06
