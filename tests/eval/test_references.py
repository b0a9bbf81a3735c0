"""References: they reconstruct, copy and learn from clean images."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_app.grammar import modality_specs
from any2all_app.measurement import build_operator
from any2all_core import DiffusionPrior, ModalityFormat, PriorSettings, Range, StackFormat, simulate
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.reconstruct import complete
from any2all_core.testing import MODALITIES, TINY_RECIPE, phantom
from any2all_data import KSpace
from any2all_eval import classical, references
from any2all_eval.patients import find_people, read_patient
from any2all_eval.study import Row
from any2all_operators import BlockDiagonal, Measurement, SenseFourier
from builders.patients import write_patient


@pytest.mark.slow
def test_references_reconstruct() -> None:
    """Each is nearer to the truth than the zero-filled image; the tuned ones than CG-SENSE."""
    truth = torch.from_numpy(phantom(64, 2).transpose(2, 1, 0) / 200)
    scan = KSpace(acceleration=3, coils=4, acs_lines=8, noise_std=0.02).build(64, 64)
    assert isinstance(scan, SenseFourier)
    data = simulate(BlockDiagonal({"FLAIR": scan}), truth[:, None])["FLAIR"]
    error = {
        name: float((solve(data) - truth).square().mean())
        for name, solve in {
            "zero-filled": scan.adjoint,
            "CG-SENSE": classical.cg_sense(scan),
            "L1-wavelet": classical.l1_wavelet(scan, 0.004),
            "total variation": classical.total_variation(scan, 0.004),
        }.items()
    }
    assert error["CG-SENSE"] < 0.7 * error["zero-filled"]
    assert error["L1-wavelet"] < error["CG-SENSE"]
    assert error["total variation"] < error["CG-SENSE"]


@pytest.mark.parametrize("phase", ["smooth", "rough"])
def test_references_of_a_scan_with_a_phase_know_its_coil_maps_alone(
    with_ct: DiffusionPrior, alike: Path, tmp_path: Path, phase: str
) -> None:
    """Their images are magnitudes, as near to the truth as those of a scan without a phase."""
    found = references.References(with_ct, find_people(str(alike)), tmp_path / "tuned.json")
    patient = read_patient(str(alike / "test/a"), with_ct, "a")
    assert patient is not None
    truth = patient.stack[:, MODALITIES.index("FLAIR")]
    error: dict[tuple[str, str], float] = {}
    for kind in (phase, "none"):
        known = f"FLAIR=kspace:acceleration=2:coils=4:acs_lines=12:phase={kind}"
        row, methods = methods_of(found, known, "FLAIR")
        assert methods == references.RECONSTRUCTION
        operator = BlockDiagonal(
            {s.modality: build_operator(s, 32, 32).operator for s in row.known}
        )
        data = simulate(operator, truth[:, None])
        for method in ("CG-SENSE", "L1-wavelet"):
            image = found.solve(method, patient, row, Measurement(operator, data))["FLAIR"]
            error[kind, method] = float((image - truth).square().mean())
    for method in ("CG-SENSE", "L1-wavelet"):
        assert error[phase, method] < 3 * error["none", method]


def test_what_is_learnt_of_clean_images() -> None:
    """A cubic relation is found by the regression, and a training slice by the nearest one."""
    train = torch.rand(6, 3, 8, 8, generator=generator(0))
    train[:, 1] = 0.2 + 0.5 * train[:, 0] ** 3 - 0.3 * train[:, 0] * train[:, 2]
    solved = references.synthesis(train, [0, 2], 1)
    torch.testing.assert_close(solved["regression"](train), train[:, 1], atol=1e-4, rtol=0)
    near = train[[4, 2]] + 0.01
    near[:, 1] = 0  # is not looked at
    torch.testing.assert_close(solved["nearest slice"](near), train[[4, 2], 1])
    torch.testing.assert_close(solved["mean image"](near)[0], train[:, 1].mean(0))


@pytest.fixture(scope="module")
def with_ct() -> DiffusionPrior:
    """An untrained prior of three MR images and a CT."""
    hu = ModalityFormat("CT", "HU", "fixed", Range(-110.0, 200.0))
    settings = PriorSettings(StackFormat((*map(ModalityFormat, MODALITIES), hu), (32, 32)))
    return build_prior(TINY_RECIPE, settings)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """val, in whom T1Gd is all but FLAIR; test, in whom T1 is; the CT of both is FLAIR, in air."""
    folder = tmp_path_factory.mktemp("alike")
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    for group, like in (("val", "T1Gd"), ("test", "T1")):
        patient = write_patient(folder / group / "a")
        flair = phantom(seed=MODALITIES.index("FLAIR"))
        nib.save(nib.Nifti1Image(flair + 1, affine), patient / f"{like}.nii.gz")
        hu = np.where(flair > 0, flair - 100, -1000)
        nib.save(nib.Nifti1Image(hu, affine), patient / "CT.nii.gz")
    return folder


def methods_of(
    found: references.References, known: str, scored: str
) -> tuple[Row, tuple[str, ...]]:
    row = Row("row", tuple(modality_specs(known)), (*scored.split(","),))
    blocks = {s.modality: build_operator(s, 32, 32).operator for s in row.known}
    return row, found.methods(row, complete(BlockDiagonal(blocks), found.prior))


def test_the_copy_is_the_given_mr_image_that_does_best_on_val(
    with_ct: DiffusionPrior, alike: Path, tmp_path: Path
) -> None:
    """Not the best one of the patient it is judged on, which would be cheating; and no CT."""
    found = references.References(with_ct, find_people(str(alike)), tmp_path / "tuned.json")
    patient = read_patient(str(alike / "test/a"), with_ct, "a")
    assert patient is not None
    row, methods = methods_of(found, "T1=clean,T1Gd=clean,CT=clean", "FLAIR")
    assert methods == (references.COPY,)
    operator = BlockDiagonal({})
    copies = found.solve(references.COPY, patient, row, Measurement(operator, {}))
    torch.testing.assert_close(copies["FLAIR"], patient.stack[:, MODALITIES.index("T1Gd")])
    assert found.tuned_so_far() == {"copy: FLAIR from T1&T1Gd": "T1Gd"}
    row, _ = methods_of(found, "T1=clean", "FLAIR,T1Gd,CT")
    copies = found.solve(references.COPY, patient, row, Measurement(operator, {}))
    assert set(copies) == {"FLAIR", "T1Gd"}
    torch.testing.assert_close(copies["FLAIR"], patient.stack[:, 0])


@pytest.mark.parametrize(
    ("known", "scored", "has"),
    [
        ("T1=clean", "FLAIR", True),
        ("T1=clean,T1Gd=clean", "FLAIR", False),  # nobody in val to choose by
        ("T1=clean", "CT", False),
        ("CT=clean", "FLAIR", False),
        ("T1=clean:noise_std=0.1", "FLAIR", False),
    ],
)
def test_only_mr_is_copied_and_only_to_mr(
    with_ct: DiffusionPrior, alike: Path, tmp_path: Path, known: str, scored: str, has: bool
) -> None:
    found = references.References(with_ct, find_people(str(alike / "test")), tmp_path / "tuned")
    _, methods = methods_of(found, known, scored)
    assert methods == ((references.COPY,) if has else ())
