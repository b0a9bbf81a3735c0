"""``any2all view``: what is served, to whom, and how it looks in a browser."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_app import complete
from any2all_core import Grid
from any2all_data.cohort_entry import Entry
from any2all_data.kinds import stack_format
from any2all_data.store import CohortStore
from any2all_operators import UserError
from any2all_view.layers import nifti
from any2all_view.patient import open_patient
from any2all_view.server import Server
from builders.command_line import Run
from builders.nifti import load
from builders.patients import write_patient

PERSON = "Mustermann_Erika"
CHROMIUM = shutil.which("chromium")
NIIVUE = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
"""SHA-256 of dist/niivue.umd.js in @niivue/niivue 0.69.0 of npm."""


@pytest.fixture(scope="module")
def out(prior_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of two draws, in a folder that bears a name."""
    folder = tmp_path_factory.mktemp("view")
    patient = write_patient(folder / "in" / PERSON)
    known = {"T1": "clean", "FLAIR": "kspace:acceleration=2:coils=2:acs_lines=8"}
    made = complete(patient, known, prior_folder, "mds:steps=2", draws=2)
    made.save(folder / PERSON, f"any2all sample --input {patient}")
    return folder / PERSON


@pytest.fixture(scope="module")
def page(out: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that the command prints, and its process."""
    command = [sys.executable, "-m", "any2all_cli", "view", str(out), "--no-browser"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # a shell's background ignores it, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    yield process.stdout.readline().split()[0], process
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert said == "view: ended\n"
    assert process.returncode == 0


def fetched(address: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return bytes(answer.read())


def refused(address: str, **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        fetched(address, **headers)
    error.value.close()
    return error.value.code


def of_nifti(data: bytes) -> np.ndarray:
    return nib.Nifti1Image.from_bytes(data).get_fdata()


def test_only_who_knows_the_token_sees_the_page(page: tuple[str, Any]) -> None:
    address, _ = page
    root, token = address.rstrip("/").rsplit("/", 1)
    assert root.startswith("http://127.0.0.1:")
    assert len(token) >= 24
    assert b"<title>Any2all: images</title>" in fetched(address)
    for other in (f"{root}/", f"{root}/patient.json", f"{root}/{token[:-1]}x/", f"{root}/{token}"):
        assert refused(other) in (403, 404)
    assert refused(address, Host="example.org") == 403, "another name for this machine"
    for wrong in (
        "volumes/0/0/9.nii",
        "volumes/9/0/0.nii",
        "volumes/0/-1/0.nii",
        "../setup",
        "volumes",
    ):
        assert refused(address + wrong) == 404


def test_what_is_served_names_nobody_and_is_what_it_says(page: tuple[str, Any], out: Path) -> None:
    address, _ = page
    described = fetched(address + "patient.json")
    assert PERSON.encode() not in described + fetched(address)
    t1, flair, t1gd = json.loads(described)["modalities"]
    assert [m["name"] for m in (t1, flair, t1gd)] == ["T1", "FLAIR", "T1Gd"]
    assert [k["kind"] for k in t1["layers"]] == ["image", "spread"]
    kinds = [k["kind"] for k in flair["layers"]]
    assert kinds == ["image", "truth", "error", "spread", "measurement"]
    assert flair["layers"][0]["frames"] == ["mean of 2", "draw 1 of 2", "draw 2 of 2"]
    assert "PSNR" in flair["said"]
    assert len(flair["layers"][4]["frames"]) == 8
    assert "measurement" not in [k["kind"] for k in t1gd["layers"]]
    volume = fetched(address + "volumes/1/2/2.nii")
    draw = load(out / "details/FLAIR_draws.nii.gz").get_fdata()[..., 1]
    truth = load(out / "details/FLAIR_truth.nii.gz").get_fdata()
    np.testing.assert_allclose(of_nifti(volume), abs(draw - truth), atol=1e-3)
    affine = load(out / "FLAIR.nii.gz").affine
    np.testing.assert_allclose(nib.Nifti1Image.from_bytes(volume).affine, affine, atol=1e-5)


def test_a_header_of_a_file_is_not_passed_on(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 4, 2), np.float32), np.eye(4))
    image.header["descrip"] = PERSON.encode()
    image.header["aux_file"] = b"Erika"
    nib.save(image, tmp_path / "T1.nii.gz")
    (shown,) = open_patient(str(tmp_path)).modalities
    assert b"Erika" not in nifti([shown], 0, 0, 0)


def test_a_patient_of_a_cohort_is_shown_with_what_was_set_aside(tmp_path: Path) -> None:
    url = str(tmp_path / "cohort")
    store = CohortStore.create(url, stack_format(("T1", "FLAIR", "CT"), (6, 5), Grid()))
    images = np.random.default_rng(0).random((3, 3, 6, 5)).astype(np.float32)
    masks = np.zeros((3, 1, 6, 5), np.uint16)
    masks[1, 0, 2:4] = 1
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    entry = Entry(
        "test", affine.tolist(), ["T1"], "T1", {"FLAIR": 0.41}, drawn=["CT"], masks={"lesion": "T1"}
    )
    store.write("p-1", images, entry, masks)
    store.write_drawn("p-1", 2 * images[:, 2:], ["CT"], {"prior": "x"})
    t1, flair, ct = shown = open_patient(f"{url}/p-1").modalities
    assert (t1.said, flair.said) == ("reference", "set aside: registration quality 0.41")
    assert (ct.said, ct.unit) == ("drawn: synthetic", "HU")
    np.testing.assert_allclose(of_nifti(nifti(shown, 1, 0, 0)), images[:, 1].T)
    np.testing.assert_allclose(of_nifti(nifti(shown, 2, 0, 0)), 2 * images[:, 2].T)
    assert t1.layers[1].kind == "mask lesion"
    np.testing.assert_array_equal(of_nifti(nifti(shown, 0, 1, 0)), masks[:, 0].T)
    served = nib.Nifti1Image.from_bytes(nifti(shown, 0, 0, 0))
    np.testing.assert_array_equal(served.affine, affine)
    for path, said in (
        (url, f"name a patient, for example {url}/p-1"),
        (f"{url}/p-9", "no patient p-9"),
    ):
        with pytest.raises(UserError) as mistake:
            open_patient(path)
        assert said in str(mistake.value)


def test_draws_from_nothing_are_shown_one_after_another(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"draw_{k:03d}").mkdir()
        image = nib.Nifti1Image(np.full((4, 4, 1), 1.0 + k, np.float32), np.eye(4))
        nib.save(image, tmp_path / f"draw_{k:03d}/T1.nii.gz")
    (shown,) = open_patient(str(tmp_path)).modalities
    assert shown.layers[0].frames == ("draw 1 of 2", "draw 2 of 2")
    assert of_nifti(nifti([shown], 0, 0, 1)).max() == 2


def test_mistakes_are_told_in_a_line(any2all: Run, out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/T1.nii.gz").write_bytes(b"no image")
    with Server(open_patient(str(out))) as taken:
        for arguments, said in (
            (["nowhere"], "nowhere: no such folder; expected a folder written by any2all sample"),
            (["empty"], "empty: no NIfTI file in it"),
            (["broken"], "not readable as NIfTI"),
            ([out.parent], f"1 patients; name one, for example {out}"),
            ([out, "--port", taken.server_port], "Address already in use; choose another, or 0"),
        ):
            done = any2all("view", *arguments, "--no-browser")
            assert done.returncode == 2, arguments
            assert said in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_the_viewer_is_what_npm_has_with_its_licence_and_small() -> None:
    page = files("any2all_view").joinpath("page")
    packed = page.joinpath("niivue.umd.js.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == NIIVUE
    assert len(packed) < 1e6
    licences = page.joinpath("NIIVUE-LICENSES.txt").read_text()
    assert "Copyright (c) 2021, Niivue" in licences


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium, which .ci/run installs")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(page: tuple[str, Any], width: int) -> None:
    """Overlays, draws and k-space change the picture; nothing is asked of any other machine."""
    from playwright.sync_api import sync_playwright

    address, _ = page
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-sync"]
    errors: list[str] = []
    asked: list[str] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=flags)
        tab = browser.new_page(viewport={"width": width, "height": 800})
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        tab.wait_for_selector("body[data-ready]", timeout=60_000)
        assert tab.title() == "Any2all: images"
        flair = tab.locator("figure").nth(1)

        def picture() -> bytes:
            return flair.locator(".stage").screenshot()

        def shown(over: str) -> None:
            tab.wait_for_function(
                "([k, url]) => (document.querySelectorAll('figure')[k].dataset.shown || '')"
                ".endsWith(url)",
                arg=[1, f'volumes/1/{over}.nii"]'],
            )

        pictures = [picture()]
        for number, kind in enumerate(("truth", "error", "spread"), start=1):
            tab.locator("#over").select_option(kind)
            shown(f"{number}/0")
            pictures.append(picture())
        assert "spread" in flair.locator(".of").inner_text()
        tab.locator("#over").select_option("error")
        tab.locator("#draw").fill("2")
        shown("2/2")
        pictures.append(picture())
        tab.locator("#part").fill("1")  # brings its overlay with it
        shown("4/1")
        pictures.append(picture())
        assert len(set(pictures)) == len(pictures), "something did not change"
        assert "inner 25% of k-space" in flair.locator(".of").inner_text()
        places = "[...Array(3).keys()].map(k => cells[k].viewer.scene.crosshairPos[2])"
        tab.locator("#slice").fill("0")
        assert tab.evaluate(places) == pytest.approx([0.125] * 3), "not linked"
        across = places.replace("[2])", "[0])")
        box = tab.locator(".stage canvas").first.bounding_box()
        assert box
        tab.locator(".stage canvas").first.click(
            position={"x": 0.4 * box["width"], "y": 0.3 * box["height"]}
        )
        moved = tab.evaluate(across)
        assert moved[0] != pytest.approx(0.5, abs=0.02)
        assert moved == pytest.approx([moved[0]] * 3, abs=1e-4), "not linked"
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert not errors, errors
    assert all(url.startswith((address, "blob:", "data:")) for url in asked), "not offline"
