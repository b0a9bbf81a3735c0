"""A prior on the Hub: its model card, what is uploaded, and that it comes back."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import any2all
import numpy as np
import pytest
from any2all_app.model_card import Publication, model_card
from any2all_core.prior import WEIGHTS, DiffusionPrior
from any2all_core.prior_settings import PriorSettings
from any2all_core.stack_format import Grid, ModalityFormat, Range, StackFormat
from any2all_core.testing import tiny_prior
from any2all_mri.intensity import mr_scale
from builders.command_line import Run
from builders.hub import Hub
from huggingface_hub import ModelCard

SAID = Publication("lab/brains", "cc-by-4.0", "Twelve people of the study X, CC BY 4.0.")
FILES = {"prior.json", "config.json", WEIGHTS, "README.md"}
TRAINED = {
    "patients": {"train": 10, "val": 2},
    "validation_loss": 0.051,
    "psnr_t300": 27.73,
    "missing": {"T1": {"CT": [21.04, 18.0]}, "CT": {"T1": [16.0, 17.5]}},
}
IMAGES = StackFormat(
    (ModalityFormat("T1"), ModalityFormat("CT", "HU", "group", Range(-1000.0, 1200.0))),
    (30, 23),
    Grid((2.0, 2.0, 3.0)),
)
SETTINGS = PriorSettings(IMAGES, TRAINED)


def test_a_card_says_what_was_measured_and_what_was_not() -> None:
    card = model_card(SETTINGS, "ab12", SAID)
    front = vars(ModelCard(card).data)
    assert (front["license"], front["library_name"]) == ("cc-by-4.0", "any2all")
    assert {"any2all", "t1", "ct"} <= set(front["tags"])
    assert "Twelve people of the study X" in card
    assert "10 patients are for training and 2 others for validation" in card
    assert "Voxels have 2 x 2 x 3 mm" in card
    assert "T1 in arbitrary units; " in card
    assert "| T1 | CT | 21.0 | 18.0 |" in card
    assert "A copy of the given image is nearer than a draw for T1 from CT." in card
    assert "Not for clinical use" in card
    assert "`ab12`" in card
    unknown = model_card(dataclasses.replace(SETTINGS, training={}), "ab12", SAID)
    assert "The number of patients was not recorded." in unknown
    assert "The prior was never validated." in unknown


def test_the_normalisation_in_a_card_is_code_that_computes_it() -> None:
    (code,) = re.findall(r"```python\n(import numpy.*?)```", model_card(SETTINGS, "", SAID), re.S)
    made: dict[str, object] = {}
    exec(code, made)
    normalise = made["normalise"]
    assert callable(normalise)
    random = np.random.default_rng(0)
    mr = random.uniform(0, 700, (8, 9, 4)).astype(np.float32)
    ct = random.uniform(-1500, 2000, (8, 9, 4)).astype(np.float32)
    expected = Range(0.0, mr_scale(mr)).normalise(mr)
    np.testing.assert_allclose(normalise("T1", mr), expected, atol=1e-6)
    expected = Range(-1000.0, 1200.0).normalise(ct)
    np.testing.assert_allclose(normalise("CT", ct), expected, atol=1e-6)


def test_a_dry_run_writes_what_would_be_uploaded(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    given = ("--licence", "apache-2.0", "--data", "Phantoms of the tests.")
    done = any2all("push", prior_folder, "lab/brains", *given, "--dry-run", "made")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "made").iterdir()} == FILES
    assert "nothing uploaded" in done.stderr
    DiffusionPrior.load(tmp_path / "made", "float32")
    for arguments, said in {
        ("brains", *given): "expected OWNER/NAME",
        ("lab/brains", "--licence", "Apache 2", *given[2:]): "--licence Apache 2: expected the Hub",
        ("lab/brains", *given[:3], " "): "--data: describe the training data",
        ("lab/brains", *given, "--dry-run", "made"): "holds other results already",
    }.items():
        done = any2all("push", prior_folder, *arguments)
        assert done.returncode == 2
        assert said in done.stderr


@pytest.mark.slow
def test_a_prior_goes_to_the_hub_and_comes_back(hub: Hub, tmp_path: Path) -> None:
    prior = tiny_prior(levels="separate")
    prior.save(tmp_path / "run")
    (tmp_path / "run/checkpoint.pt").write_bytes(b"stays at home")
    where = any2all.push(tmp_path / "run", SAID, private=True)
    assert where == f"{hub.url}/lab/brains"
    assert hub.visibility in ("private", True)
    assert hub.tokens == {"Bearer hf_of_a_test"}
    assert set(hub.files) == FILES
    assert hub.files[WEIGHTS] == (tmp_path / "run" / WEIGHTS).read_bytes()
    again = any2all.load_prior("hf:lab/brains", "float32")
    assert again.settings == prior.settings
    hub.refuses = True
    with pytest.raises(any2all.UserError, match=r"hf:lab/brains: not uploaded \(.*; check the na"):
        any2all.push(tmp_path / "run", SAID)
