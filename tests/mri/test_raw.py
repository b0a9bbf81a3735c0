"""Raw k-space: files as scanners and data sets have them, and what is estimated from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from any2all_mri import KSpace, birdcage_maps, read_raw
from any2all_mri.calibration import calibration_size, estimated_noise_std
from any2all_mri.raw import RawKSpace, centred_fft, centred_ifft, turned
from any2all_operators import FieldOfView, SenseFourier, UserError
from builders.raw_data import (
    COILS,
    HEIGHT,
    NOISE,
    SLICES,
    WIDTH,
    images,
    lines,
    scan,
    write_ismrmrd,
)


def test_numpy_files_with_and_without_a_mask(tmp_path: Path) -> None:
    y = scan(lines())
    np.save(tmp_path / "T1.npy", y)
    raw = read_raw(tmp_path / "T1.npy")
    np.testing.assert_array_equal(raw.mask, np.broadcast_to(lines().numpy(), (HEIGHT, WIDTH)))
    np.testing.assert_array_equal(raw.kspace, y)
    np.save(tmp_path / "T1_mask.npy", lines().numpy() * (np.arange(WIDTH) > 3))
    assert read_raw(tmp_path / "T1.npy").mask[:, :4].sum() == 0
    np.save(tmp_path / "one.npy", y[0])
    assert read_raw(tmp_path / "one.npy").kspace.shape == (1, COILS, HEIGHT, WIDTH)


def test_a_fastmri_file_loses_its_oversampling(tmp_path: Path) -> None:
    y = scan()
    wide = np.zeros((SLICES, COILS, 2 * HEIGHT, WIDTH), complex)
    wide[:, :, HEIGHT // 2 : 3 * HEIGHT // 2] = centred_ifft(y, (2,))
    write_ismrmrd(tmp_path / "header.h5", wide[:1], np.zeros(WIDTH))
    with h5py.File(tmp_path / "header.h5") as file:
        header = bytes(file["dataset/xml"][0])
    with h5py.File(tmp_path / "FLAIR.h5", "w") as file:
        file["kspace"] = (centred_fft(wide, (2,)) * lines().numpy()).astype(np.complex64)
        file["mask"] = lines().numpy()
        file["ismrmrd_header"] = header
    raw = read_raw(tmp_path / "FLAIR.h5")
    assert raw.oversampling == 2
    measured = KSpace(phase="smooth").read(tmp_path / "FLAIR.h5", HEIGHT, HEIGHT)
    assert isinstance(measured.operator, FieldOfView)
    assert measured.operator.scan_size == (HEIGHT, WIDTH)
    np.testing.assert_allclose(
        measured.data.numpy() * measured.scale, y * lines().numpy(), atol=1e-5
    )


def test_an_ismrmrd_file_is_assembled_and_prewhitened(tmp_path: Path) -> None:
    y = scan(lines())
    write_ismrmrd(tmp_path / "T1.mrd", y, lines().numpy())
    raw = read_raw(tmp_path / "T1.mrd")
    np.testing.assert_allclose(raw.kspace, y, atol=1e-6)
    assert raw.field_of_view == (HEIGHT * 5, WIDTH * 5)
    assert raw.noise_covariance is None
    write_ismrmrd(tmp_path / "noisy.mrd", y, lines().numpy(), noise_scale=NOISE)
    raw = read_raw(tmp_path / "noisy.mrd")
    assert raw.noise_covariance is not None
    np.testing.assert_allclose(np.diag(raw.noise_covariance).real, 2 * NOISE**2, rtol=0.1)
    details = KSpace().read(tmp_path / "noisy.mrd", HEIGHT, WIDTH).details
    assert details["noise_std_from"] == "noise scan"


@pytest.mark.parametrize("scale", [1.0, 3e-5])
def test_phase_scale_and_noise_are_found(tmp_path: Path, scale: float) -> None:
    np.save(tmp_path / "T1.npy", scan(lines(), scale))
    measured = KSpace().read(tmp_path / "T1.npy", HEIGHT, WIDTH)
    assert measured.scale == pytest.approx(scale, rel=0.05)
    assert measured.operator.noise_std == pytest.approx(NOISE, rel=0.35)
    flat = measured.operator.prox(measured.data, torch.zeros(SLICES, HEIGHT, WIDTH), 100.0)
    inside = images() > 0.2
    assert float((flat - images())[inside].abs().mean()) < 0.05
    # without the phase there is no real image that fits
    blind = SenseFourier(birdcage_maps(COILS, HEIGHT, WIDTH), lines(), NOISE)
    wrong = blind.prox(measured.data, torch.zeros(SLICES, HEIGHT, WIDTH), 100.0)
    assert float((wrong - images())[inside].abs().mean()) > 0.2


@pytest.mark.parametrize(("degrees", "mirror"), [(90, False), (180, False), (270, True)])
def test_a_scan_is_turned_about_its_centre_pixel(degrees: int, mirror: bool) -> None:
    y = centred_fft(images(41, 41).numpy()[:, None], (2, 3)).astype(np.complex64)
    raw = turned(RawKSpace(y, np.ones((41, 41), np.float32)), degrees, mirror)
    expected = np.rot90(images(41, 41).numpy(), degrees // 90, (1, 2))
    expected = expected[:, :, ::-1] if mirror else expected
    np.testing.assert_allclose(centred_ifft(raw.kspace, (2, 3))[:, 0].real, expected, atol=1e-6)


def test_the_grid_is_that_of_the_images(tmp_path: Path) -> None:
    np.save(tmp_path / "T1.npy", scan(lines()))
    for zoom, size in ((1.0, (32, 27)), (1.25, (40, 33)), (0.5, (16, 13))):
        measured = KSpace(zoom=zoom, phase="smooth").read(tmp_path / "T1.npy", 32, 32)
        assert isinstance(measured.operator, FieldOfView)
        assert measured.operator.scan_size == size
        assert measured.data.shape == (SLICES, COILS, *size)
        assert measured.operator.adjoint(measured.data).shape == (SLICES, 32, 32)


def test_the_calibration_centre_is_found() -> None:
    mask = np.zeros((20, 18), np.float32)
    mask[7:13, 7:12] = 1
    assert calibration_size(mask) == (6, 5)
    mask[:, ::4] = 1
    assert calibration_size(np.ones((6, 4), np.float32)) == (6, 4)
    assert calibration_size(np.broadcast_to(lines(8).numpy(), (HEIGHT, WIDTH)))[0] == HEIGHT


def test_noise_is_estimated_from_air_and_from_the_outside() -> None:
    whole = RawKSpace(scan(), np.ones((HEIGHT, WIDTH), np.float32))
    assert estimated_noise_std(whole) == pytest.approx(NOISE, rel=0.2)


BAD: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "real": (lambda: np.zeros((2, 8, 8)), "expected complex"),
    "two axes": (lambda: np.zeros((8, 8), complex), r"\(8, 8\); expected complex"),
    "all zero": (lambda: np.zeros((2, 8, 8), complex), "every sample is 0"),
    "NaN": (lambda: np.full((2, 8, 8), np.nan, complex), "NaN or infinity"),
    "no centre": (lambda: scan(lines(acs=0)), "fully sampled centre is"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused(tmp_path: Path, case: str) -> None:
    make, said = BAD[case]
    np.save(tmp_path / "T1.npy", make())
    with pytest.raises(UserError, match=said) as error:
        KSpace().read(tmp_path / "T1.npy", 48, 48)
    assert "T1.npy" in str(error.value)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no hdf5")
    with pytest.raises(UserError, match="not readable as raw k-space"):
        read_raw(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(UserError, match=r"neither fastMRI .* nor ISMRMRD"):
        read_raw(tmp_path / "b.h5")
    np.save(tmp_path / "c.npy", scan())
    np.save(tmp_path / "c_mask.npy", np.ones(7))
    with pytest.raises(UserError, match=r"mask is \(7,\)"):
        read_raw(tmp_path / "c.npy")
    write_ismrmrd(tmp_path / "d.mrd", scan(), np.arange(WIDTH) == 99, NOISE)
    with pytest.raises(UserError, match="no imaging data"):
        read_raw(tmp_path / "d.mrd")
