"""Scans whose phase is not smooth, and samples that are held out of a scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any2all_mri import KSpace, birdcage_maps
from any2all_mri.held_out import HeldOut, phase_trial
from any2all_mri.phase import Phase, simulated_phase
from any2all_operators import (
    BlockDiagonal,
    Identity,
    Measurement,
    SenseFourier,
    UnknownPhase,
    UserError,
)
from builders.phase import NOISE, SIZE, images, simulation


def test_what_data_alone_tells_of_a_phase() -> None:
    smooth, data = simulation("smooth", noise=0.02)
    assert isinstance(smooth.estimated(data), SenseFourier)
    rough, data = simulation("rough")
    found = rough.estimated(data)
    assert isinstance(found, UnknownPhase)
    assert found.estimated(data) is found
    none = KSpace().build(SIZE, SIZE)
    assert none.estimated(data) is none


@pytest.mark.parametrize("kind", ["smooth", "rough"])
def test_the_phase_of_a_file_is_judged(tmp_path: Path, kind: Phase) -> None:
    _, data = simulation(kind, noise=0.02)
    np.save(tmp_path / "T1.npy", data.numpy())
    measured = KSpace().read(tmp_path / "T1.npy", SIZE, SIZE)
    said = measured.details
    assert said["phase"].startswith("smooth" if kind == "smooth" else "not smooth")
    assert said["phase_from"] == "held out"
    trial = said["phase_trial"]
    assert (trial["misfit"] < 1.2 and trial["real"] < trial["complex"]) == (kind == "smooth")
    told = KSpace(phase="rough").read(tmp_path / "T1.npy", SIZE, SIZE)
    assert isinstance(told.operator, UnknownPhase)
    assert told.details["phase_from"] == "option"
    with pytest.raises(UserError, match=r"phase=none: .* is a measured scan"):
        KSpace(phase="none").read(tmp_path / "T1.npy", SIZE, SIZE)


@pytest.mark.parametrize("option", [{"acceleration": 8}, {"mask": "random"}])
def test_an_option_that_does_not_apply_is_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    np.save(tmp_path / "T1.npy", simulation("smooth")[1].numpy())
    (name,) = option
    with pytest.raises(UserError, match=f"{name}=.* applies to a simulation, but .*T1.npy was"):
        KSpace(**option).read(tmp_path / "T1.npy", SIZE, SIZE)
    with pytest.raises(UserError, match=r"turn=90 applies to a measured scan"):
        KSpace(turn=90).build(SIZE, SIZE)


def test_a_phase_that_is_faint_but_above_the_noise_is_not_smooth() -> None:
    """A real image predicts better, being half as much to find; but it can't explain the data."""
    rough, _ = simulation("rough", noise=0.001)
    smooth = simulated_phase("smooth", SIZE, SIZE)
    faint = replace(rough, phase=smooth + 0.15 * (rough.phase - smooth))
    data = faint.measure(images(), [torch.Generator().manual_seed(k) for k in (1, 2)])
    maps = faint.scan.coil_maps * torch.polar(torch.ones_like(smooth), smooth)
    trial = phase_trial(replace(faint.scan, coil_maps=maps), data, lambda _, part: part.coil_maps)
    assert trial is not None
    assert trial.real < trial.complex
    assert trial.misfit > 2
    assert not trial.smooth


def test_an_unknown_phase_is_refused_where_images_are_real() -> None:
    with pytest.raises(UserError, match="its images are real; expected an operator with"):
        UnknownPhase(Identity())


def test_the_phase_near_an_image_explains_the_data() -> None:
    rough, data = simulation("rough")
    operator = rough.estimated(data)
    truth = images()
    without = Measurement(BlockDiagonal({"T1": operator}), {"T1": data})
    near = without.near(truth[:, None])
    before, after = (m.residual(truth[:, None])["T1"] for m in (without, near))
    noise = NOISE * operator.data_size(data) ** 0.5
    assert (before > 5 * noise).all()
    assert (after < 0.4 * before).all()
    alone = operator.select(torch.tensor([1])).near(data[1:], truth[1:])
    found = near.operator.operators["T1"]
    assert isinstance(found, UnknownPhase)
    assert isinstance(alone, UnknownPhase)
    assert found.phase is not None
    assert alone.phase is not None
    torch.testing.assert_close(alone.phase[0], found.phase[1])


def test_what_is_held_out_was_sampled_outside_the_centre() -> None:
    operator, data = simulation("rough")
    parts = HeldOut.of(operator.scan, data)
    assert parts is not None
    both = parts.kept.mask + parts.held.mask
    torch.testing.assert_close(both, operator.scan.mask.expand(2, SIZE, SIZE))
    columns = parts.held.mask[:, 0]
    assert (parts.held.mask == columns[:, None]).all()
    assert (columns.sum(1) == 2).all()
    assert not columns[:, SIZE // 2 - 7 : SIZE // 2 + 7].any()
    truth = torch.polar(images(), operator.phase.expand(2, -1, -1))
    assert parts.error(truth) == pytest.approx(parts.noise, rel=0.1)
    # half of what is held out, half of nothing
    assert parts.share(truth, torch.zeros_like(truth)) == pytest.approx(1, abs=0.01)
    assert parts.share(truth / 2, 3 * truth / 2) == pytest.approx(0.5, abs=0.01)
    least, wavelet = parts.least_squares(), parts.l1_wavelet()
    assert min(wavelet.error, least.error) < 1
    again = least.again(parts.kept, parts.kept_data)
    torch.testing.assert_close(again, least.image)


def test_a_scan_without_enough_lines_is_not_judged() -> None:
    mask = torch.zeros(SIZE)
    mask[SIZE // 2 - 4 : SIZE // 2 + 4] = 1
    scan = SenseFourier(birdcage_maps(2, SIZE, SIZE), mask, NOISE)
    assert HeldOut.of(scan, scan.forward(images())) is None
