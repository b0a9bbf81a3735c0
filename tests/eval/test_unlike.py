"""Patients who do not look like those of the training are named in the report of an evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from any2all_core.testing import MODALITIES, tiny_prior
from any2all_data.appearance import WORDS
from any2all_eval.evaluation import Evaluation, evaluate
from builders.observers import Said
from builders.patients import write_patient

STUDY = """
title = "A little"
samplers = ["mds:steps=2"]

[[rows]]
name = "FLAIR from T1&T1Gd"
known = "T1=clean,T1Gd=clean"
scored = "FLAIR"
"""


def test_images_unlike_those_of_the_training_are_in_the_report(tmp_path: Path) -> None:
    prior = tiny_prior()
    usual = {name: [0.0, 100.0] for name in WORDS}
    looks = dict.fromkeys(MODALITIES, usual) | {"T1": usual | {"contrast": [90.0, 91.0]}}
    settings = replace(prior.settings, training={"looks": looks})
    type(prior)(prior.unet, settings).save(tmp_path / "prior")
    (tmp_path / "little.toml").write_text(STUDY)
    for name in "ab":
        write_patient(tmp_path / "people" / name)
    asked = Evaluation(
        studies=[str(tmp_path / "little.toml")],
        input=str(tmp_path / "people"),
        prior=str(tmp_path / "prior"),
        precision="float32",
        references=False,
        slices=1,
    )
    observer = Said()
    assert evaluate(asked, tmp_path / "out", observer)
    (said,) = [text for text in observer.said if text.startswith("a: T1 does not look like the T1")]
    assert "the standard deviation over the mean in the head is" in said
    assert "in training 90.00 to 91.00" in said
    unlike = json.loads((tmp_path / "out/report.json").read_text())["unlike_training"]
    assert {name: list(images) for name, images in unlike.items()} == {"a": ["T1"], "b": ["T1"]}
    page = (tmp_path / "out/report.html").read_text()
    assert "2 of these patients have images that do not look like those of the training" in page
    assert "T1: the standard deviation over the mean in the head (2)" in page
