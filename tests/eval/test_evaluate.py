"""Studies, references, statistics, claims and the report of ``any2all evaluate``."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from any2all_data.kinds import stack_format
from any2all_data.metrics import at_best_scale, best_scale
from any2all_eval import classical, metrics, references
from any2all_eval.beaten import compare, told
from any2all_eval.claims import Results, decide
from any2all_eval.frechet import features, frechet
from any2all_eval.generation import judge
from any2all_eval.lesions import spots
from any2all_eval.metrics import fid, scores, through_plane
from any2all_eval.patients import find_people, read_patient
from any2all_eval.statistics import by_patient, difference, mean_of
from any2all_eval.study import SHIPPED, Row, Study, read_study
from any2all_eval.tables import lines_of
from any2all_eval.uncertainty import uncertainty
from any2all_operators import BlockDiagonal, Measurement, SenseFourier, UserError
from builders.command_line import Run
from builders.patients import write_patient

VIRTUAL = ("T1", "FLAIR", "T2star", "CT", "PET")
THREE = stack_format(MODALITIES, (32, 32))
STUDY = """
title = "A little of everything"
samplers = ["mds:steps=3"]
draws = 2

[[growing]]
target = "FLAIR"
measured = "kspace:coils=2:acs_lines=4"

[[rows]]
name = "FLAIR from T1"
known = "T1=clean"
scored = "FLAIR"

[[rows]]
name = "needs CT"
known = "CT=clean"
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train, val and test, two each, every one other than the others; test with a lesion."""
    folder = tmp_path_factory.mktemp("people")
    for seed, (group, name) in enumerate((g, n) for g in ("train", "val", "test") for n in "ab"):
        patient = write_patient(folder / group / name, seed=7 * seed)
        for k, modality in enumerate(MODALITIES):
            image = nib.Nifti1Image(phantom(seed=7 * seed + k), np.diag([-1.5, -1.5, 4.0, 1.0]))
            nib.save(image, patient / f"{modality}.nii.gz")
        if group == "test":
            mask = np.zeros((32, 32, 4), np.uint8)
            mask[12:20, 12:20] = 1
            affine = np.diag([-1.5, -1.5, 4.0, 1.0])
            nib.save(nib.Nifti1Image(mask, affine), patient / "lesion.nii.gz")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "little.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def evaluated(people: Path, study: Path, prior_folder: Path) -> Path:
    """A finished run, to be looked at only."""
    output = people.parent / "evaluated"
    command = [sys.executable, "-m", "any2all_cli", "evaluate", study, *where(people, prior_folder)]
    command = [*map(str, command), "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    return output


def where(people: Path, prior: Path) -> list[Any]:
    return ["--input", people, "--prior", prior, "--slices", 2, "--precision", "float32"]


def without_time(output: Path) -> list[dict[str, str]]:
    with (output / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("modalities", [MODALITIES, VIRTUAL])
def test_shipped_studies_fit_both_priors(name: str, modalities: tuple[str, ...]) -> None:
    study = read_study(name, stack_format(modalities, (32, 32)))
    assert study.rows
    assert set(study.left_out.values()) <= {"T1Gd"}
    for row in study.rows:
        assert not set(row.scored) & set(row.clean)


def test_a_growing_study_adds_one_clean_image_each() -> None:
    rows = read_study("reconstruction", stack_format(VIRTUAL, (32, 32))).rows
    assert [row.name for row in rows][:3] == ["y(FLAIR)", "y(FLAIR)+T1", "y(FLAIR)+T1&T2star"]
    assert [len(row.clean) for row in rows] == [0, 1, 2, 3, 4]
    assert all(row.measured == ("FLAIR",) for row in rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 1", "title = 1; expected title (str)"),
        ("[[rows]]\nname = 'a'", "expected name, known, scored, maybe samplers"),
        ("[[rows]]\nname='a'\nknown='T1=clean'\nscored='T1'", "T1 is given clean"),
        ("[[rows]]\nname='a'\nknown='CT=clean'", "nothing of it fits this prior (CT)"),
        ("[[rows]]\nname='a'\nknown='*=clean'", "everything is given clean"),
        ("[[rows]]\nname='a'\nknown='T1=clean'\nR = 4", "expected name, known, scored"),
        ("samplers = [1]\n[[rows]]\nname='a'\nknown='T1=clean'", "expected texts"),
        ("not toml", "not TOML"),
    ],
)
def test_mistakes_in_a_study_are_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(UserError) as mistake:
        read_study(str(path), THREE)
    assert said in str(mistake.value)


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


def test_the_best_scale_is_one_factor_a_volume() -> None:
    """No other factor has a smaller error; a volume's slices share it; it is never negative."""
    image, truth = torch.rand(2, 4, 16, 16, generator=generator(5))
    best = float(best_scale(image, truth))
    errors = [float((a * image - truth).square().sum()) for a in (best, best - 0.01, best + 0.01)]
    assert min(errors) == errors[0]
    uneven = truth * torch.tensor([0.5, 1.0, 1.0, 1.0])[:, None, None]
    assert float((at_best_scale(uneven, truth) - truth).abs().max()) > 0.1
    torch.testing.assert_close(at_best_scale(truth / 3, truth), truth)
    assert float(best_scale(-image, truth)) == 0
    assert float(best_scale(torch.zeros(4, 16, 16), truth)) == 0


@pytest.mark.parametrize("factor", [0.2, 3.0])
def test_scaled_scores_do_not_depend_on_brightness(factor: float) -> None:
    truth = torch.rand(3, 16, 16, generator=generator(6)) ** 2
    image = (truth + 0.1 * torch.randn(3, 16, 16, generator=generator(7))).clamp(0, 1)
    head = torch.ones(3, 16, 16, dtype=torch.bool)
    plain, changed = (scores(u, truth, head) for u in (image, factor * image))
    for name in ("psnr_scaled", "ssim_scaled"):
        assert changed[name] == pytest.approx(plain[name], rel=1e-4)
    assert max(changed["psnr"]) < min(plain["psnr"]) - 3
    in_hu = scores(image, truth, head, width=2000.0)
    assert not any(name.endswith("_scaled") for name in in_hu), "HU is not to be scaled"


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


def test_scores_against_what_they_are_defined_as() -> None:
    truth = torch.rand(2, 16, 16, generator=generator(1))
    image = (truth + 0.1).clamp(0, 1)
    head = torch.zeros(2, 16, 16, dtype=torch.bool)
    head[:, 4:8] = True
    found = scores(image, truth, head, torch.zeros_like(head), width=2000.0)
    error = (image - truth).double()
    assert found["mae"][0] == pytest.approx(2000 * float(error[0, 4:8].abs().mean()), rel=1e-4)
    mse = float(error[1, 4:8].square().mean())
    assert found["psnr_head"][1] == pytest.approx(-10 * math.log10(mse), rel=1e-4)
    nmse = float(error[0].square().sum() / truth[0].double().square().sum())
    assert found["nmse"][0] == pytest.approx(nmse, rel=1e-4)
    assert math.isnan(found["psnr_lesion"][0])


def test_the_spread_of_draws_is_judged_by_their_error() -> None:
    """Draws of the truth's own distribution cover it and are as far apart as from it."""
    normal = torch.randn(9, 2, 64, 64, generator=generator(8))
    head = torch.ones(2, 64, 64, dtype=torch.bool)
    truth, draws = normal[0], normal[1:]
    found = uncertainty(draws.mean(0), draws.std(0), truth, head, draws=8)
    assert found["coverage"] == pytest.approx([0.9, 0.9], abs=0.02)
    assert found["spread"] == pytest.approx([1, 1], abs=0.05)
    sure = uncertainty(draws.mean(0), draws.std(0) / 2, truth, head, draws=8)
    assert sure["spread"] == pytest.approx([0.5, 0.5], abs=0.03)
    assert max(sure["coverage"]) < 0.7


def test_flicker_is_told_of_neighbouring_slices() -> None:
    truth = torch.rand(4, 16, 16, generator=generator(9))
    head = torch.ones(4, 16, 16, dtype=torch.bool)
    places = (3, 4, 6, 7)
    assert through_plane(truth, truth, head, places) == pytest.approx({0: 0, 2: 0}, abs=1e-6)
    still = truth[:1].expand(4, -1, -1)
    assert through_plane(still, truth, head, places) == pytest.approx({0: 1, 2: 1})
    flicker = truth + 0.5 * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None]
    assert min(through_plane(flicker, truth, head, places).values()) > 2


def test_lesions_lost_and_invented() -> None:
    truth = torch.full((1, 32, 32), 0.3)
    head = torch.ones(1, 32, 32, dtype=torch.bool)
    lesion = torch.zeros_like(head)
    lesion[:, 4:12, 4:12] = True
    lesion[:, 20:24, 4:8] = True
    truth[lesion] = 0.9
    image = truth.clone()
    image[:, 20:24, 4:8] = 0.3  # 16 pixels lost
    image[:, 20:28, 20:28] = 0.9  # 64 invented
    image[:, 12:14, 4:12] = 0.9  # grown, not invented
    (found,) = spots(image, truth, lesion, head, pixel=4.0) or []
    assert sorted(found.lesions) == [64, 256]
    assert found.lost == [64]
    assert found.invented == [256]
    (same,) = spots(truth, truth, lesion, head, pixel=4.0) or []
    assert (same.lost, same.invented) == ([], [])
    assert spots(image, truth, torch.zeros_like(head), head, pixel=4.0) is None
    (tiny,) = spots(image, truth, lesion, head, pixel=0.5) or []  # 16 pixels are 8 mm²
    assert (tiny.lost, tiny.invented) == ([], [])


CLAIMED = ("quality grows with every added modality", "the first clean modality gains most")


def records(gains: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    """Of a study's rows: the PSNR of each patient."""
    for row, values in gains.items():
        for patient, value in enumerate(values):
            yield {
                "study": "reconstruction", "row": row, "method": "mds", "image": "FLAIR",
                "patient": str(patient), "psnr": value,
            }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "grows", "first_most"),
    [
        (1.0, 0.3, "holds", "holds"),
        (1.0, -0.3, "does not hold", "holds"),
        (1.0, 0.0, "not decidable", "holds"),
        (0.2, 2.0, "holds", "does not hold"),
    ],
)
def test_claims_are_decided_by_patients(
    first: float, second: float, grows: str, first_most: str
) -> None:
    """Of gains that vary by 0.1 among nine; five patients decide nothing, though they agree."""
    study = read_study("reconstruction", THREE)
    spread = [0.1, -0.1, 0.06, -0.07, 0.02, 0.03, -0.05, -0.02, 0.04]
    for patients in (9, 5):
        one = [first + s for s in spread[:patients]]
        two = [a + second - s for a, s in zip(one, spread[::-1], strict=False)]
        gains = {"y(FLAIR)": [0.0] * patients, "y(FLAIR)+T1": one, "y(FLAIR)+T1&T1Gd": two}
        claims = {claim.text: claim for claim in decide(Results([study], list(records(gains))))}
        found = [claims[text].verdict for text in CLAIMED]
        assert found == ([grows, first_most] if patients == 9 else ["not decidable"] * 2)
        assert not claims["MDS beats MPS in PSNR for reconstruction"].steps


def test_mixed_claims_compare_what_they_say() -> None:
    study = read_study("mixed", THREE)
    values = {row.name: [float(k), k + 0.1] for k, row in enumerate(study.rows)}
    rows = [{**r, "study": "mixed"} for r in records(values)]
    claims = {claim.text: claim for claim in decide(Results([study], rows))}
    gains = [step.what for step in claims["mixed inputs gain with each measurement"].steps]
    assert "y(T1)+y(FLAIR), R = 4 (mds) over y(FLAIR), R = 4 (mds)" in gains
    assert "y(all MR), R = 4 (mds) over y(T1)+y(FLAIR), R = 4 (mds)" in gains
    assert len(gains) == 6
    more = [step.what for step in claims["more modalities matter more than cleaner ones"].steps]
    assert more == [f"y(all MR), R = {r} (mds) over T1+y(FLAIR), R = {r} (mds)" for r in (2, 4, 8)]


def figures(row: str, method: str, **means: float) -> dict[str, Any]:
    """The record of one patient's one slice."""
    of = {"study": "little", "row": row, "method": method, "image": "FLAIR", "patient": "a"}
    return {**of, "unit": "of [0, 1]", "seconds": 1.0, **means}


def test_a_row_in_which_a_reference_wins_is_named() -> None:
    """With method, best reference and both figures; in each metric; a row that wins is not."""
    study = Study("little", "A little", ("mds",), 1, (), {})
    rows = [
        figures("lost", "mds", psnr=20.0, ssim=0.8, psnr_scaled=24.0, ssim_scaled=0.8),
        figures("lost", "regression", psnr=21.0, ssim=0.7, psnr_scaled=23.0, ssim_scaled=0.7),
        figures("lost", "copy", psnr=22.5, ssim=0.75, psnr_scaled=23.0, ssim_scaled=0.85),
        figures("won", "mds", psnr=23.0, ssim=0.9),
        figures("won", "copy", psnr=22.0, ssim=0.9),
        figures("broken", "mds", psnr=math.nan, ssim=math.nan),
        figures("broken", "copy", psnr=10.0, ssim=0.1),
        figures("alone", "mds", psnr=10.0, ssim=0.1),
    ]
    count, sentences = told(compare([study], lines_of(rows)))
    assert sentences == [
        "little, lost (FLAIR): mds is below a simple reference in PSNR (20.00 dB, copy 22.50 dB) "
        "and SSIM at the best scale (0.800, copy 0.850).",
        "little, broken (FLAIR): mds is below a simple reference in PSNR (not finite, copy 10.00 "
        "dB) and SSIM (not finite, copy 0.100).",
    ]
    assert "beats 2 of 3" in count
    assert "without a simple reference: 1." in count
    assert "none of 1" in told(compare([study], lines_of(rows[3:5])))[0]


def test_statistics_are_over_patients() -> None:
    """A patient with many slices counts once; the interval is that of a mean of so many."""
    rows = [*records({"y": [1.0, 3.0]}), *records({"y": [1.0]}), *records({"y": [1.0]})]
    (found,) = by_patient(rows, "psnr").values()
    assert found == {"0": 1.0, "1": 3.0}
    values = torch.randn(40, generator=generator(3)).tolist()
    mean = mean_of(values)
    half = 1.96 * np.std(values, ddof=1) / 40**0.5
    assert mean.high - mean.low == pytest.approx(2 * half, rel=0.1)
    a = {str(k): v + 0.5 for k, v in enumerate(values)}
    b = {str(k): v for k, v in enumerate(values)} | {"other": 9.0}
    gap = difference(a, b)
    assert gap.mean.value == pytest.approx(0.5)
    assert gap.p < 1e-6


def test_frechet_distance_grows_with_what_differs() -> None:
    """0 to itself, of Gaussians as in closed form, and more for blurred images than for others."""
    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, (20000, 2)), random.normal([3, 0], [1, 2], (20000, 2))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, b) == pytest.approx(9 + 1, rel=0.05)
    heads = torch.stack([torch.from_numpy(phantom(seed=k).transpose(2, 1, 0)) for k in range(8)])
    stacks = (heads / 200).flatten(0, 1)[:, None].repeat(1, 2, 1, 1)
    stacks = (stacks + 0.05 * torch.rand(stacks.shape, generator=generator(2))).clamp(0, 1)
    smooth = torch.nn.functional.avg_pool2d(stacks, 5, 1, 2)
    found = judge(stacks[::2], [s[None] for s in stacks[1::2]], [smooth])
    assert found.frechet_draws < found.frechet_held_out
    assert features(stacks).shape[0] == 32


def test_copies_are_found() -> None:
    stacks = torch.rand(12, 2, 16, 16, generator=generator(4))
    train, others = stacks[:8], stacks[8:]
    copies = torch.cat([train[:2].flip(-1), others[:2]])
    found = judge(copies, train.split(2), [others])
    assert found.nearest_draws[0] < 1e-4 < found.nearest_held_out[0]
    assert found.nearer_than_any_held_out == 2


def test_fid_takes_the_standard_weights_alone(tmp_path: Path) -> None:
    other = tmp_path / "inception.pth"
    with pytest.raises(UserError, match=r"inception\.pth: No such file"):
        fid(other)
    torch.save({}, other)
    with pytest.raises(UserError, match=r"SHA-256 begins with \w{8}, not 6726825d"):
        fid(other)


@pytest.mark.slow
def test_fid_by_the_inception_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network itself, with random weights in place of those that are not at hand."""
    inception = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError
    )
    torch.manual_seed(0)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: None)
    network = object.__new__(inception.FeatureExtractorInceptionV3)
    monkeypatch.setattr(network.__class__, "load_state_dict", lambda *_, **__: None)
    network.__init__("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    weights = tmp_path / "inception.pth"
    torch.save(network.state_dict(), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(metrics, "INCEPTION", digest[:8])
    distance = fid(weights)
    images = torch.rand(6, 32, 32, generator=generator(0))
    assert distance(images, images)["FID"] == pytest.approx(0, abs=1e-3)
    stacks = torch.stack([images, images], 1)
    found = judge(
        stacks,
        [stacks[:3], stacks[3:]],
        [stacks / 2],
        modalities=("T1", "FLAIR"),
        distances=[distance],
    )
    t1, flair = (found.by_network[f"FID, {m}"] for m in ("T1", "FLAIR"))
    assert t1 == flair
    assert t1[1] > t1[2]  # darker ones are farther than the same


@pytest.mark.slow
def test_a_run_is_whole(evaluated: Path) -> None:
    """Every row by every method; figures that fit each other; the tables and the page."""
    report = json.loads((evaluated / "report.json").read_text())
    keys = [tuple(line["key"][1:3]) for line in report["results"]]
    sampled = [row for row, method in keys if method == "mds:steps=3"]
    assert sampled == ["FLAIR from T1", "y(FLAIR)", "y(FLAIR)+T1", "y(FLAIR)+T1&T1Gd"]
    assert {m for r, m in keys if r == "y(FLAIR)"} >= set(references.RECONSTRUCTION)
    assert {m for r, m in keys if r == "FLAIR from T1"} >= set(references.SYNTHESIS)
    assert report["left_out"] == {"little": {"needs CT": "CT"}}
    (line,) = [x for x in report["results"] if x["key"][1:3] == ["y(FLAIR)", "CG-SENSE"]]
    rows = [
        r for r in without_time(evaluated) if (r["row"], r["method"]) == ("y(FLAIR)", "CG-SENSE")
    ]
    assert len(rows) == 4
    assert line["means"]["psnr"]["value"] == pytest.approx(
        np.mean([float(r["psnr"]) for r in rows])
    )
    assert 0 < line["means"]["ssim_scaled"]["value"] < 1
    residuals = [r["residual"] for r in without_time(evaluated) if r["row"] == "FLAIR from T1"]
    assert not any(residuals)
    text = (evaluated / "tables.md").read_text()
    assert "| y(FLAIR) | FLAIR | mds:steps=3 |" in text
    assert "quality grows with every added modality" in text
    assert "PSNR (dB) / SSIM of MR at the best scale" in text
    for name in ("little-FLAIR", "little-curves", "little-scatter"):
        assert (evaluated / f"figures/{name}.png").stat().st_size > 5000
    assert r"\begin{tabular}" in (evaluated / "tables.tex").read_text()
    page = (evaluated / "report.html").read_text()
    sentences = [entry["sentence"] for entry in report["beaten"]]
    assert "FLAIR from T1 (FLAIR): mds:steps=3 is below a simple reference" in sentences[0]
    agreement = page.index("<h2>Agreement with the measurement</h2>")
    for sentence in sentences:
        assert f"- {sentence}\n" in text
        assert page.index(sentence) < agreement
    assert not re.search(r"""(src|href|url\()=?["']?https?:""", page), "not self-contained"


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_cut(
    evaluated: Path, people: Path, study: Path, prior_folder: Path, any2all: Run, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(evaluated, cut)
    before = without_time(cut)
    for path in [*cut.glob("parts/b/*.json")][1:]:
        path.unlink()
    (cut / "results.csv").unlink()
    options = where(people, prior_folder)
    done = any2all("evaluate", study, *options, "--output", cut, "--resume")
    assert done.returncode == 0, done.stderr
    assert without_time(cut) == before
    beaten = json.loads((cut / "report.json").read_text())["beaten"]
    assert beaten
    assert all(f"{entry['sentence']}\n" in done.stderr for entry in beaten)
    other = any2all("evaluate", study, *options, "--output", cut, "--resume", "--draws", 1)
    assert other.returncode == 2
    assert "--resume: the run in" in other.stderr
    again = any2all("evaluate", study, *options, "--output", cut)
    assert again.returncode == 2
    assert "holds other results already" in again.stderr


@pytest.mark.slow
def test_two_processes_find_what_one_does(
    evaluated: Path, people: Path, study: Path, prior_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", "29631", "-m", "any2all_cli", "evaluate", str(study)]
    command += [*map(str, where(people, prior_folder)), "--output", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert without_time(tmp_path / "two") == without_time(evaluated)


def test_names_that_make_one_file_are_refused(
    any2all: Run, people: Path, prior_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "two.toml"
    rows = "".join(f"[[rows]]\nname='R {sign} 4'\nknown='T1=clean'\n" for sign in "<>")
    path.write_text(rows)
    done = any2all("evaluate", path, *where(people, prior_folder), "--output", "out")
    assert done.returncode == 2
    assert "rename one" in done.stderr
    assert not Path("out").exists()


def test_noisy_images_are_measured_not_clean() -> None:
    row = Row("a", tuple(modality_specs("T1=clean:noise_std=0.1,FLAIR=clean")), ("T1",))
    assert (row.measured, row.clean) == (("T1",), ("FLAIR",))


@pytest.mark.slow
def test_one_damaged_patient_is_refused_and_the_others_are_judged(
    any2all: Run, people: Path, study: Path, prior_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(people, copy)
    (copy / "test/a/T1.nii.gz").write_bytes(b"no image")
    options = ["--no-references", "--sampler", "mds:steps=2", "--draws", 1, "--shown", 1]
    done = any2all("evaluate", study, *where(copy, prior_folder), *options, "--output", "out")
    assert done.returncode == 1
    assert "a refused" in done.stderr
    assert {row["patient"] for row in without_time(Path("out"))} == {"b"}
    page = Path("out/report.html").read_text()
    assert '"number 1"' in page
    json.loads(Path("out/report.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nothing.toml"], "no study nothing.toml"),
        (["mixed", "--sampler", "mds:steps=x"], "steps=x is not of type int"),
        (["mixed", "--group", "nobody"], "--group nobody: expected test or val"),
        (
            ["generation", "--slices", "1", "--patients", "1"],
            "compared with two or more slices of test",
        ),
        (["mixed", "--input", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_mistakes_are_told_in_a_line(
    any2all: Run, people: Path, prior_folder: Path, options: list[str], said: str
) -> None:
    done = any2all("evaluate", *where(people, prior_folder), *options, "--output", "out")
    assert done.returncode == 2
    assert said in done.stderr
    assert not Path("out").exists()


@pytest.mark.slow
def test_generation_is_judged_beside_real_people(
    any2all: Run, people: Path, prior_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "few.toml"
    path.write_text(
        'samplers = ["ddpm:steps=2"]\ndraws = 4\n[[rows]]\nname = "nothing"\nknown = ""\n'
    )
    done = any2all("evaluate", path, *where(people, prior_folder), "--output", "out")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(Path("out/report.json").read_text())["generation"].values()
    assert found["draws"] == 4
    assert found["frechet_draws"] > found["frechet_held_out"] > 0
    assert "not FID" in Path("out/tables.md").read_text()
    assert Path("out/draws/few/ddpm_steps=2/sheet.png").exists()


CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium, which .ci/run installs")
def test_the_report_works_in_a_browser(evaluated: Path) -> None:
    """Clicked through on a phone's screen; any error on the console fails."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    errors: list[str] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto((evaluated / "report.html").as_uri())
        page.wait_for_selector("#pictures canvas")
        count = page.locator("#pictures figure").count()
        assert count == 1 + 1 + len(references.SYNTHESIS)  # the truth, MDS, references
        assert "spread" in page.locator("#pictures figcaption").nth(1).inner_text()

        def picture() -> str:
            return str(page.evaluate("document.querySelector('#pictures canvas').toDataURL()"))

        first = picture()
        page.locator("#slice").fill("1")
        page.wait_for_function("document.getElementById('place').textContent.includes('2 of 2')")
        page.wait_for_timeout(300)
        assert picture() != first
        page.locator("#row").select_option("y(FLAIR)")
        page.wait_for_timeout(300)
        names = " ".join(page.locator("#pictures figcaption").all_inner_texts())
        assert "CG-SENSE" in names
        page.locator("#patient").select_option("number 2")
        page.wait_for_timeout(300)
        page.locator("details summary").first.click()
        for picture_ in ("#pictures canvas", ".strip img", "figure.zooms svg"):
            page.locator(picture_).first.click()
            box = page.locator("dialog[open] > *").bounding_box()
            assert box is not None
            assert box["width"] > 300, "not enlarged"
            page.locator("dialog").click()
            page.wait_for_function("!document.querySelector('dialog')")
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        page.set_viewport_size({"width": 360, "height": 780})
        inner = "[...document.querySelectorAll('.wide')].map(e => e.scrollWidth - e.clientWidth)"
        assert max(page.evaluate(inner)) <= 0, "a table is wider than a phone"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.set_viewport_size({"width": 390, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, "wider than a phone"
        browser.close()
    assert not errors, errors
