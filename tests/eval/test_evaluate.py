"""`any2all evaluate`: a run is whole, goes on where it was cut, and tells mistakes in a line."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import MODALITIES, phantom
from any2all_eval import references
from builders.command_line import Run
from builders.patients import write_patient

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
    """Two in train, one in val and two in test, all different; test with a lesion."""
    folder = tmp_path_factory.mktemp("people")
    for seed, place in enumerate(("train/a", "train/b", "val/a", "test/a", "test/b")):
        patient = write_patient(folder / place, seed=7 * seed)
        for k, modality in enumerate(MODALITIES):
            image = nib.Nifti1Image(phantom(seed=7 * seed + k), np.diag([-1.5, -1.5, 4.0, 1.0]))
            nib.save(image, patient / f"{modality}.nii.gz")
        if place.startswith("test"):
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
