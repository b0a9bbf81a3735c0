"""The command line as a user meets it: real processes, files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_core import ModalityFormat, PriorSettings, Range, StackFormat
from any2all_core.network import build_prior
from any2all_core.testing import TINY_RECIPE
from any2all_mri import KSpace
from any2all_mri.intensity import mr_scale
from builders.command_line import Run
from builders.mixes import FEW, MIX
from builders.nifti import load
from builders.patients import write_patient
from PIL import Image


def test_a_mix_of_inputs_gives_a_whole_patient(
    process: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = process(
        *("sample", "--prior", prior_folder, "--input", patient, "--modalities", MIX),
        *("--output", out, "--draws", 2, *FEW),
    )
    assert done.returncode == 0, done.stderr
    assert "FLAIR: simulated from the truth, PSNR" in done.stderr
    assert "without the prior" in done.stderr
    assert "; 1.6-fold undersampled in effect" in done.stderr
    assert "T1Gd: synthesised (not measured), PSNR" in done.stderr
    assert f"to look at them: any2all view {out}" in done.stderr
    assert {p.name for p in out.iterdir()} == {
        *(f"{m}.nii.gz" for m in ("T1", "FLAIR", "T1Gd")),
        *(f"{m}_std.nii.gz" for m in ("T1", "FLAIR", "T1Gd")),
        "report.json",
        "preview.png",
        "details",
    }
    for m in ("T1", "FLAIR", "T1Gd"):
        given, made = (
            load(patient / f"{m}.nii.gz"),
            load(out / f"{m}.nii.gz"),
        )
        np.testing.assert_allclose(made.affine, given.affine)
        assert made.shape == given.shape
    t1 = load(out / "T1.nii.gz").get_fdata()
    np.testing.assert_array_equal(t1, load(patient / "T1.nii.gz").get_fdata())
    assert not load(out / "T1_std.nii.gz").get_fdata().any()
    assert load(out / "T1Gd_std.nii.gz").get_fdata().any()
    report = json.loads((out / "report.json").read_text())
    assert report["network_calls"] == 3
    assert len(report["prior"]["sha256"]) == 64
    assert report["not_for_clinical_use"] is True
    flair = report["modalities"]["FLAIR"]
    assert flair["source"] == "simulated from the truth"
    assert flair["operator"] == "kspace"
    assert flair["options"] | {"acceleration": 2, "coils": 4} == flair["options"]
    assert flair["noise_std"] == 0.01
    assert report["versions"]["any2all-demo"]
    assert flair["effective_acceleration"] == pytest.approx(32 / 20, abs=1e-3)
    assert flair["score"]["psnr"] > flair["score_zero_filled"]["psnr"]
    assert report["modalities"]["T1"]["source"] == "measured"
    assert report["modalities"]["T1"]["residual_rms"] == 0
    assert report["modalities"]["T1Gd"]["source"] == "missing"
    with Image.open(out / "preview.png") as picture:
        assert picture.width == 6 + 6 * (7 * 32 + 6), "six columns, of at least 200 pixels"


def test_mr_is_also_scored_at_its_best_scale_and_hu_is_not(
    any2all: Run, patient: Path, tmp_path: Path
) -> None:
    hu = ModalityFormat("T1Gd", "HU", "fixed", Range(0.0, 200.0))
    images = StackFormat((ModalityFormat("T1"), ModalityFormat("FLAIR"), hu), (32, 32))
    build_prior(TINY_RECIPE, PriorSettings(images)).save(tmp_path / "prior")
    done = any2all(
        *("sample", "--prior", tmp_path / "prior", "--input", patient, "--modalities", "T1=clean"),
        *("--output", tmp_path / "out", *FEW),
    )
    assert done.returncode == 0, done.stderr
    modalities = json.loads((tmp_path / "out/report.json").read_text())["modalities"]
    flair = modalities["FLAIR"]["score"]
    given = load(patient / "FLAIR.nii.gz").get_fdata()
    truth = np.clip(given / mr_scale(given), 0, 1)
    image = load(tmp_path / "out/FLAIR.nii.gz").get_fdata() / mr_scale(given)
    scaled = (image * truth).sum() / (image**2).sum() * image
    mse = ((np.clip(scaled, 0, 1) - truth) ** 2).mean((0, 1))
    assert flair["psnr_scaled"] == pytest.approx(float(-10 * np.log10(mse).mean()), abs=0.01)
    assert flair["psnr_scaled"] > flair["psnr"]
    assert set(modalities["T1Gd"]["score"]) == {"psnr", "ssim"}
    best = f"{flair['psnr_scaled']:.1f} dB, {flair['ssim_scaled']:.3f}"
    assert f"FLAIR: synthesised (not measured), PSNR {flair['psnr']:.1f} dB" in done.stderr
    assert f"(at the best scale {best})" in done.stderr
    of_hu = [line for line in done.stderr.splitlines() if line.startswith("T1Gd")]
    assert of_hu
    assert not [line for line in of_hu if "at the best scale" in line]


def test_the_same_seed_gives_the_same_files(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    made = []
    for name, batch in (("a", 1), ("b", 4)):
        done = any2all(
            *("sample", "--prior", prior_folder, "--input", patient, "--modalities", "T1=clean"),
            *("--output", tmp_path / name, "--batch-size", batch, "--precision", "float32", *FEW),
        )
        assert done.returncode == 0, done.stderr
        made.append(load(tmp_path / name / "FLAIR.nii.gz").get_fdata())
    np.testing.assert_allclose(made[0], made[1], atol=1e-2)  # of 150; float32 sums differ by batch


def test_a_volume_is_drawn_with_noise_that_goes_on_through_its_slices(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    """Over millimetres, as the file says how far apart the slices are."""
    thick = write_patient(tmp_path / "thick", np.diag([-1.5, -1.5, 8.0, 1.0]))
    made = []
    for folder, mm in ((patient, 0), (patient, 30), (thick, 60)):
        out = tmp_path / f"through-{mm}"
        done = any2all(
            *("sample", "--prior", prior_folder, "--input", folder, "--modalities", "T1=clean"),
            *("--through", mm, "--output", out, *FEW),
        )
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "report.json").read_text())["through_mm"] == mm
        made.append(load(out / "FLAIR.nii.gz").get_fdata())
    steps = [np.abs(np.diff(image, axis=2)).mean() for image in made]
    assert steps[1] < 0.9 * steps[0]
    np.testing.assert_array_equal(made[1], made[2])


def test_a_missing_file_is_no_obstacle_where_the_modality_is_missing(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    (patient / "T1Gd.nii.gz").unlink()
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--modalities", "T1=clean"),
        *("--output", tmp_path / "out", "--slices", "1:3", *FEW),
    )
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "out/T1Gd.nii.gz").shape == (32, 32, 2)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert "score" not in report["modalities"]["T1Gd"]
    assert report["modalities"]["T1Gd"]["unit"] == "normalised"


def test_simulate_takes_an_image_as_the_truth(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--simulate"),
        *("--modalities", "T1=clean:noise_std=0.1", "--output", tmp_path / "out", *FEW),
    )
    assert done.returncode == 0, done.stderr
    t1 = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["T1"]
    assert t1["source"] == "simulated from the truth"
    assert t1["score_without_prior"]["psnr"] == pytest.approx(22, abs=2)  # some is clipped at 0


def test_new_patients_from_nothing(any2all: Run, prior_folder: Path, tmp_path: Path) -> None:
    done = any2all(
        *("sample", "--prior", prior_folder, "--sampler", "ddpm", "--draws", 3),
        *("--output", tmp_path / "out", *FEW),
    )
    assert done.returncode == 0, done.stderr
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.nii.gz")}
    assert len(names) == 9
    assert "draw_002/FLAIR.nii.gz" in names
    drawn = tmp_path / "out/draw_002"
    again = any2all(
        *("sample", "--prior", prior_folder, "--input", drawn, "--modalities", "T1=clean"),
        *("--output", tmp_path / "again", *FEW),
    )
    assert again.returncode == 0, again.stderr
    for image in ("out/draw_002/T1.nii.gz", "again/T1.nii.gz"):
        np.testing.assert_array_equal(
            load(tmp_path / image).get_fdata(),
            load(drawn / "T1.nii.gz").get_fdata(),
        )
        assert nib.aff2axcodes(load(tmp_path / image).affine) == (
            "L",
            "P",
            "S",
        )


def test_a_simulated_clean_image_is_still_returned_as_it_was(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--simulate"),
        *("--modalities", "T1=clean", "--output", tmp_path / "out", *FEW),
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        load(tmp_path / "out/T1.nii.gz").get_fdata(),
        load(patient / "T1.nii.gz").get_fdata(),
    )


def test_the_default_output_is_a_new_folder_each_time(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        assert any2all("sample", "--prior", prior_folder, *FEW).returncode == 0
    assert (tmp_path / "any2all-out-1/report.json").exists()
    assert (tmp_path / "any2all-out-2/report.json").exists()


def test_plugins_are_listed_as_json(any2all: Run) -> None:
    rows = json.loads(any2all("plugins", "--json").stdout)
    assert {"group", "name", "distribution", "version", "object"} == set(rows[0])
    assert {row["name"] for row in rows} >= {
        "clean",
        "kspace",
        "missing",
        "mds",
        "mps",
        "mmps",
        "ddpm",
        "lgg",
        "virtual",
    }
    assert "mds" in any2all("plugins").stdout


def test_raw_k_space_in_the_folder_is_the_measurement(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    truth = np.asarray(load(patient / "FLAIR.nii.gz").dataobj).transpose(2, 1, 0)
    images = torch.from_numpy(truth / 200).float()
    scan = KSpace(acceleration=2, coils=4, acs_lines=14, noise_std=0.002).build(32, 32)
    y = scan.measure(images, [torch.Generator().manual_seed(k) for k in range(4)])
    np.save(patient / "FLAIR.npy", 7 * y.numpy())
    options = ["--prior", prior_folder, "--input", patient, "--modalities", "T1=clean,FLAIR=kspace"]
    done = any2all("sample", *options, "--set", "steps=3", "--output", tmp_path / "out")
    assert "residual" in done.stderr
    entry = json.loads((tmp_path / "out/report.json").read_text())["modalities"]["FLAIR"]
    assert entry["source"] == "measured"
    assert entry["scan"]["coil_maps"] == "ESPIRiT"
    assert entry["scan"]["scale"] == pytest.approx(7 * mr_scale(truth) / 200, rel=0.1)
    assert "score" in entry  # the image beside it is the truth
    # with --simulate the image is measured instead, and too few slices are told
    any2all("sample", *options, "--simulate", "--set", "steps=1", "--output", tmp_path / "two")
    np.save(patient / "FLAIR.npy", y.numpy()[:3])
    said = any2all("sample", *options, "--output", tmp_path / "three").stderr
    assert "numbers of slices differ (T1 4, FLAIR 3, T1Gd 4)" in said
    only = tmp_path / "only"
    only.mkdir()
    np.save(only / "T1.npy", y.numpy())
    any2all(
        *("sample", "--prior", prior_folder, "--input", only, "--modalities", "T1=kspace"),
        *("--set", "steps=2", "--slices", "1:3", "--draws", "2", "--output", tmp_path / "four"),
    )
    assert load(tmp_path / "four/T1Gd_std.nii.gz").shape == (32, 32, 2)


def test_a_plugin_tells_its_options_and_all_pass_their_check(any2all: Run) -> None:
    told = any2all("plugins", "mds").stdout
    assert "mds: MDS: in each step, the denoised stack" in told
    assert "weight=noise  (noise | float)" in told
    assert "128 x 128" in any2all("plugins", "lgg").stdout
    rows = json.loads(any2all("plugins", "--check", "--json").stdout)
    assert {row["check"] for row in rows} == {"ok"}
    done = any2all("plugins", "blur")
    assert done.returncode == 2
    assert "unknown plugin 'blur'; installed: " in done.stderr
