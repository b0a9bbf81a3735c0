"""Scans whose phase is not smooth, and samples that are held out of a scan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_app.trust import Trust, blended, trust
from any2all_core import GaussianPrior, make_sampler, reconstruct
from any2all_data import KSpace, birdcage_maps
from any2all_data.held_out import HeldOut, phase_trial
from any2all_data.phase import SimulatedPhase, simulated_phase
from any2all_operators import (
    BlockDiagonal,
    Identity,
    Measurement,
    Operator,
    SenseFourier,
    UnknownPhase,
    UserError,
    equispaced_mask,
)
from conftest import Run, phantom, write_patient
from torch import Tensor

SIZE = 48
NOISE = 0.004


def images() -> Tensor:
    """(2, H, W) in [0, 1]."""
    return torch.from_numpy(phantom(SIZE, 2) / 195).permute(2, 0, 1)


def simulation(kind: str, noise: float = NOISE) -> tuple[SimulatedPhase, Tensor]:
    recipe = KSpace(phase=kind, acceleration=3, acs_lines=14, coils=6, noise_std=noise)
    operator = recipe.build(SIZE, SIZE)
    assert isinstance(operator, SimulatedPhase)
    return operator, operator.measure(images(), [torch.Generator().manual_seed(k) for k in (1, 2)])


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
def test_the_phase_of_a_file_is_judged(tmp_path: Path, kind: str) -> None:
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
def test_an_option_that_does_not_apply_is_refused(
    tmp_path: Path, option: dict[str, object]
) -> None:
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
    torch.testing.assert_close(alone.phase[0], near.operator.operators["T1"].phase[1])


@pytest.mark.parametrize("sampler", ["mds", "mps", "mmps", "mcs"])
def test_samplers_find_the_phase_with_the_image(sampler: str) -> None:
    truth = images()[:1, ::2, ::2]
    size = (SIZE // 2, SIZE // 2)
    blurred = torch.nn.functional.avg_pool2d(truth[None], 5, 1, 2, count_include_pad=False)[0]
    covariance = 0.04 * torch.eye(SIZE**2 // 4)
    levels = "separate" if sampler == "mcs" else "shared"
    prior = GaussianPrior(("T1",), 2 * blurred - 1, covariance, levels=levels)
    phase = simulated_phase("rough", *size, seed=3) - simulated_phase("smooth", *size, seed=3)
    scan = SenseFourier(birdcage_maps(6, *size), equispaced_mask(24, 2, 8), NOISE, True)
    (y,) = SimulatedPhase(scan, phase).measure(truth, [torch.Generator().manual_seed(1)])

    def error(operator: Operator) -> float:
        draw = make_sampler(sampler)
        image = reconstruct(prior, BlockDiagonal({"T1": operator}), {"T1": y[None]}, draw)
        return float((image[0, :, 0] - truth).square().mean().sqrt())

    ignored = error(replace(scan, complex_image=False))
    assert error(UnknownPhase(scan)) < 0.5 * ignored


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


def test_a_prior_that_does_not_help_gives_way() -> None:
    """A prior that is sure of another image: the classical one takes its place, which is said."""
    truth = images()[:, ::2, ::2]
    size = (SIZE // 2, SIZE // 2)
    phase = simulated_phase("rough", *size, seed=3) - simulated_phase("smooth", *size, seed=3)
    scan = SenseFourier(birdcage_maps(6, *size), equispaced_mask(24, 2, 8), NOISE, True)
    data = SimulatedPhase(scan, phase).measure(
        truth, [torch.Generator().manual_seed(k) for k in (1, 2)]
    )
    found = UnknownPhase(scan)
    covariance = 0.001 * torch.eye(SIZE**2 // 4)

    def judge(mean: Tensor) -> tuple[Trust, Tensor]:
        prior = GaussianPrior(("T1",), 2 * mean - 1, covariance)
        block = BlockDiagonal({"T1": found})
        judged = trust(prior, block, {"T1": data}, "T1", seed=0)
        assert judged is not None
        return judged, reconstruct(prior, block, {"T1": data})[:, :, 0]

    wrong, draws = judge(truth[:1].flip(-1))
    assert wrong.prior > wrong.best.error > wrong.noise
    assert wrong.share < 0.5
    assert "The prior does not help on this scan" in wrong.sentence
    mixed = blended(wrong, found, data, draws)
    assert (mixed[0] - truth).norm() < 0.8 * (draws[0] - truth).norm()

    right, draws = judge(truth[:1])
    assert right.prior < right.best.error
    assert "The prior helps on this scan" in right.sentence
    assert blended(right, found, data, draws) is draws
    assert right.report()["rest"] is None


def test_the_command_says_whether_the_prior_helps(
    tmp_path: Path, any2all: Run, prior_folder: Path
) -> None:
    rough = KSpace(phase="rough", acceleration=2, acs_lines=12, coils=6, noise_std=NOISE)
    truth = torch.nn.functional.pad(images()[:, ::2, ::2], (4, 4, 4, 4))
    folder = tmp_path / "scan"
    folder.mkdir()
    generators = [torch.Generator().manual_seed(k) for k in (1, 2)]
    np.save(folder / "T1.npy", rough.build(32, 32).measure(truth, generators).numpy())
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", folder, "--modalities", "T1=kspace"),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "T1: of samples that were held out the prior leaves" in done.stderr
    entry = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["T1"]
    assert entry["scan"]["phase"].startswith("not smooth")
    assert set(entry["held_out"]["held_out_errors"]) == {"prior", "CG-SENSE", "L1-wavelet", "noise"}
    assert 0 <= entry["held_out"]["share_of_the_prior"] <= 1


def test_a_simulation_with_a_phase_is_drawn_without_knowing_it(
    tmp_path: Path, any2all: Run, prior_folder: Path
) -> None:
    patient = write_patient(tmp_path / "patient")
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--slices", "1:2"),
        *("--modalities", "T1=clean,FLAIR=kspace:phase=rough:acs_lines=12:acceleration=2"),
        *("--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    entry = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["FLAIR"]
    assert entry["options"]["phase"] == "rough"
    assert entry["residual_over_noise"] > 0
