"""A sampler is evaluated in the rows that it can answer."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from any2all_core.testing import tiny_prior
from any2all_eval.evaluation import Evaluation, evaluate
from any2all_operators import UserError
from builders.patients import write_patient

pytestmark = pytest.mark.slow

SCAN = """
[[rows]]
name = "y(FLAIR)"
known = "FLAIR=kspace:coils=2:acs_lines=4"
scored = "FLAIR"
"""
IMAGES = """
[[rows]]
name = "FLAIR from T1"
known = "T1=clean"
scored = "FLAIR"
"""


def test_the_mean_is_left_out_of_rows_with_k_space(tmp_path: Path) -> None:
    tiny_prior(levels="separate").save(tmp_path / "prior")
    (tmp_path / "both.toml").write_text(SCAN + IMAGES)
    (tmp_path / "scan.toml").write_text(SCAN)
    asked = Evaluation(
        studies=[str(tmp_path / "both.toml")],
        input=str(write_patient(tmp_path / "a")),
        prior=str(tmp_path / "prior"),
        samplers=["mds:steps=2", "mean"],
        references=False,
    )
    assert evaluate(asked, tmp_path / "out")
    with (tmp_path / "out/results.csv").open() as file:
        judged = {(row["row"], row["method"]) for row in csv.DictReader(file)}
    assert judged == {
        ("y(FLAIR)", "mds:steps=2"),
        ("FLAIR from T1", "mds:steps=2"),
        ("FLAIR from T1", "mean"),
    }
    with pytest.raises(UserError, match=r"mean takes images only, .* \(y\(FLAIR\)\); leave"):
        evaluate(replace(asked, studies=[str(tmp_path / "scan.toml")]), tmp_path / "no")
    assert not (tmp_path / "no").exists()
