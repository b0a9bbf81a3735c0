"""Raw k-space as users have it: padded, damaged, in another order, or with options that do not fit.

What is right is known, as every file is simulated from a phantom."""

from __future__ import annotations

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from any2all_mri import KSpace, read_raw
from any2all_operators import FieldOfView, SenseFourier, UnknownPhase, UserError
from builders.raw_data import COILS, HEIGHT, NOISE, SLICES, WIDTH, lines, scan
from builders.raw_data import write_ismrmrd as write
from builders.raw_defects import error

MASK = np.broadcast_to(lines().numpy(), (HEIGHT, WIDTH))


def padded(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """k-space (Z, C, H, W) with rows that were not measured, and its mask (H, W)."""
    y, taken = scan(lines()), MASK.copy()
    if kind == "partial echo":
        y[:, :, :12], taken[:12] = 0, 0
        return y, taken
    y, taken = (np.pad(a, [(0, 0)] * (a.ndim - 2) + [(8, 8), (0, 0)]) for a in (y, taken))
    if kind == "padding with rounding":
        y = y + 1e-9 * np.abs(y).max()
    return y, taken


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["padding", "padding with rounding", "partial echo"])
@pytest.mark.parametrize("suffix", [".npy", ".h5", "with a mask"])
def test_padding_is_not_a_sample(tmp_path: Path, kind: str, suffix: str) -> None:
    y, taken = padded(kind)
    path = tmp_path / f"T1{suffix if suffix == '.h5' else '.npy'}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["kspace"] = y
    else:
        np.save(path, y)
    if suffix == "with a mask":
        np.save(tmp_path / "T1_mask.npy", lines().numpy())
    np.testing.assert_array_equal(read_raw(path).mask, taken)
    measured = KSpace().read(path, *taken.shape)
    assert measured.operator.noise_std * measured.scale == pytest.approx(NOISE, rel=0.2)


@pytest.mark.parametrize("kind", ["npy", "mask (Z, W)", "mask (Z, 1, W)", "mask (Z, H, W)", "mrd"])
def test_every_slice_may_have_its_own_lines(tmp_path: Path, kind: str) -> None:
    moved = np.roll(lines().numpy(), 1)
    moved[WIDTH // 2 - 8 : WIDTH // 2 + 8] = 1
    combs = np.stack([lines().numpy(), moved])
    y = scan() * combs[:, None, None]
    path = tmp_path / ("T1.mrd" if kind == "mrd" else "T1.npy")
    if kind == "mrd":
        write(path, y, combs)
    else:
        np.save(path, y)
    whole = np.broadcast_to(combs[:, None], (SLICES, HEIGHT, WIDTH))
    masks = {"mask (Z, W)": combs, "mask (Z, 1, W)": combs[:, None], "mask (Z, H, W)": whole}
    if kind in masks:
        np.save(tmp_path / "T1_mask.npy", masks[kind])
    np.testing.assert_array_equal(read_raw(path).mask, whole)
    if kind == "mrd":  # its readout is oversampled
        return
    measured = KSpace().read(path, HEIGHT, WIDTH)
    operator = measured.operator
    while isinstance(operator, UnknownPhase | FieldOfView):
        operator = operator.scan
    assert isinstance(operator, SenseFourier)
    np.testing.assert_array_equal(operator.mask, whole)
    assert operator._row_wise is not None
    assert operator.noise_std * measured.scale == pytest.approx(NOISE, rel=0.2)
    assert error(measured) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, np.nan, np.inf])
def test_a_slice_without_samples_leaves_the_others_as_they_are(tmp_path: Path, bad: float) -> None:
    y = scan(lines())
    np.save(tmp_path / "good.npy", y)
    good = KSpace().read(tmp_path / "good.npy", HEIGHT, WIDTH)
    y = np.stack([y[0], np.full_like(y[0], 0), y[1]])
    y[1, 0, 3:5] = bad
    np.save(tmp_path / "T1.npy", y)
    measured = KSpace().read(tmp_path / "T1.npy", HEIGHT, WIDTH)
    assert measured.details["slices_left_out"] == [1]
    assert "slice 1 (counted from 0) has no samples, or has NaN" in measured.details["warnings"][0]
    assert measured.scale == good.scale
    assert measured.operator.noise_std == good.operator.noise_std
    np.testing.assert_array_equal(measured.data[[0, 2]], good.data)
    assert not measured.data[1].any()
    others = measured.operator.select(torch.tensor([0, 2]))
    zeros = torch.zeros(2, HEIGHT, WIDTH)
    expected = good.operator.prox(good.data, zeros, 100.0)
    found = others.prox(good.data, zeros, 100.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # ESPIRiT starts at random


@pytest.mark.parametrize("kind", ["zero", "no noise", "one value", "noise scan"])
def test_dead_coils_are_dropped(tmp_path: Path, kind: str) -> None:
    y = scan(lines())
    path = tmp_path / ("T1.mrd" if kind == "noise scan" else "T1.npy")
    if kind == "noise scan":
        loud = np.full((COILS, 1), NOISE)
        loud[2] = 0
        write(path, y, lines().numpy(), loud)
    else:
        y[:, 2] = {"zero": 0, "no noise": 1e-9 * y[:, 2], "one value": 0}[kind]
        y[:, 2, HEIGHT // 2, WIDTH // 2] = kind == "one value"
        np.save(path, y)
    raw = read_raw(path)
    assert raw.dead_coils == (2,)
    assert raw.kspace.shape[1] == COILS - 1
    measured = KSpace().read(path, HEIGHT, WIDTH)
    assert measured.details["coils_dropped"] == [2]
    assert measured.details["warnings"] == [
        "coil 2 (counted from 0) has no noise; it is dropped and the others are used"
    ]
    found = measured.operator.noise_std * measured.scale
    assert found == pytest.approx(0.5**0.5 if kind == "noise scan" else NOISE, rel=0.2)


def test_discarded_samples_are_not_used(tmp_path: Path) -> None:
    y = scan(lines())

    def change(acquisition: ismrmrd.Acquisition) -> None:
        acquisition.discard_pre, acquisition.discard_post = 6, 4
        acquisition.data[:, :6] = acquisition.data[:, -4:] = 100

    write(tmp_path / "T1.mrd", y, lines().numpy(), NOISE, change=change)
    raw = read_raw(tmp_path / "T1.mrd")
    y[:, :, :6] = y[:, :, -4:] = 0
    np.testing.assert_allclose(raw.kspace, y, atol=1e-6)
    np.testing.assert_array_equal(raw.mask, (np.abs(y) > 0).any((0, 1)))


@pytest.mark.parametrize("first", [0, 14])
@pytest.mark.parametrize("discarded", [0, 3])
def test_a_reversed_readout_is_turned_about_its_centre(
    tmp_path: Path, first: int, discarded: int
) -> None:
    """``first``: of the rows that an echo has, the others were not waited for."""
    y = scan(lines())

    def change(acquisition: ismrmrd.Acquisition) -> None:
        line = acquisition.data[:, first:][:, ::-1].copy()
        acquisition.resize(line.shape[1], COILS)
        acquisition.data[:] = line
        acquisition.center_sample = line.shape[1] - 1 - (HEIGHT // 2 - first)
        acquisition.discard_post = discarded  # as stored: of the low rows
        acquisition.set_flag(ismrmrd.ACQ_IS_REVERSE)

    write(tmp_path / "T1.mrd", y, lines().numpy(), change=change)
    raw = read_raw(tmp_path / "T1.mrd")
    y[:, :, : first + discarded] = 0
    np.testing.assert_allclose(raw.kspace, y, atol=1e-6)


ORDERS = {
    "(H, W, coils)": ((2, 3, 1), False, "(2, 0, 1)"),
    "(slices, H, W, coils)": ((0, 2, 3, 1), True, "(0, 3, 1, 2)"),
    "(H, W, slices, coils)": ((2, 3, 0, 1), True, "(2, 3, 0, 1)"),
    "(H, coils, W)": ((2, 1, 3), False, "(1, 0, 2)"),
    "(W, coils, H)": ((3, 1, 2), False, "(1, 2, 0)"),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_another_order_of_axes_is_refused(tmp_path: Path, order: str, suffix: str) -> None:
    axes, all_slices, back = ORDERS[order]
    y = scan(lines())
    y = y.transpose(axes) if all_slices else y[0].transpose([a - 1 for a in axes])
    path = tmp_path / f"T1{suffix}"
    if suffix == ".npy":
        np.save(path, y)
    else:
        with h5py.File(path, "w") as file:
            file["kspace"] = y
    with pytest.raises(UserError) as told:
        read_raw(path)
    assert f"its shape {y.shape} looks like {order}" in str(told.value)
    assert "expected (slices, coils, H, W), H readout and W phase encode" in str(told.value)
    assert f"kspace.transpose{back}" in str(told.value)


def test_k_space_that_is_not_centred_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "T1.npy", np.fft.ifftshift(scan(lines()), (2, 3)))
    with pytest.raises(UserError, match="its energy lies in the corners of k-space; expected it"):
        read_raw(tmp_path / "T1.npy")


def test_many_slices_are_not_taken_for_another_order(tmp_path: Path) -> None:
    np.save(tmp_path / "T1.npy", np.tile(scan(lines()), (32, 1, 1, 1)))
    assert len(read_raw(tmp_path / "T1.npy").kspace) == 64


@pytest.mark.parametrize(
    ("rows", "columns", "where", "factor"),
    [
        (True, True, "rows and columns", "(-1)**row * (-1)**column"),
        (True, False, "rows", "(-1)**row"),
        (False, True, "columns", "(-1)**column"),
    ],
)
def test_a_head_at_the_edge_is_told(
    tmp_path: Path, rows: bool, columns: bool, where: str, factor: str
) -> None:
    path, y = tmp_path / "T1.npy", scan(lines())
    np.save(path, y)
    assert KSpace().read(path, HEIGHT, WIDTH).details["warnings"] == []
    row, column = np.indices((HEIGHT, WIDTH))
    np.save(path, y * (-1) ** (row * rows + column * columns))
    (told,) = KSpace().read(path, HEIGHT, WIDTH).details["warnings"]
    assert f"lies at the edge of the field of view along its {where}; expected it in the" in told
    assert f"Multiply k-space by {factor} if" in told


def test_two_partitions_of_which_one_was_measured_are_slices(tmp_path: Path) -> None:
    y = scan(lines())
    write(tmp_path / "T1.mrd", y, lines().numpy(), partitions=2)
    np.testing.assert_allclose(read_raw(tmp_path / "T1.mrd").kspace, y, atol=1e-6)

    def change(acquisition: ismrmrd.Acquisition) -> None:
        acquisition.idx.kspace_encode_step_2 = acquisition.idx.kspace_encode_step_1 % 2

    write(tmp_path / "3d.mrd", y, lines().numpy(), partitions=2, change=change)
    with pytest.raises(UserError, match=r"three-dimensional encoding \(2 partitions\)"):
        read_raw(tmp_path / "3d.mrd")


@pytest.mark.parametrize("shape", [(1, 1, WIDTH, 1), (1, WIDTH), (WIDTH, 1), (1, 1, 1, WIDTH)])
def test_masks_are_squeezed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with h5py.File(tmp_path / "T1.h5", "w") as file:
        file["kspace"] = scan()
        file["mask"] = lines().numpy().reshape(shape)
    np.testing.assert_array_equal(read_raw(tmp_path / "T1.h5").mask, MASK)


def test_nan_in_a_mask_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "T1.npy", scan())
    np.save(tmp_path / "T1_mask.npy", np.where(lines() > 0, 1, np.nan))
    with pytest.raises(UserError, match="its mask holds NaN or infinity; expected 1"):
        read_raw(tmp_path / "T1.npy")
