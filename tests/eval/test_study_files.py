"""Studies as files: those that are shipped, and mistakes in others."""

from __future__ import annotations

from pathlib import Path

import pytest
from any2all_app.grammar import modality_specs
from any2all_core.testing import MODALITIES
from any2all_data.kinds import stack_format
from any2all_eval.study import SHIPPED, Row, read_study
from any2all_operators import UserError

THREE = stack_format(MODALITIES, (32, 32))

VIRTUAL = ("T1", "FLAIR", "T2star", "CT", "PET")


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


def test_noisy_images_are_measured_not_clean() -> None:
    row = Row("a", tuple(modality_specs("T1=clean:noise_std=0.1,FLAIR=clean")), ("T1",))
    assert (row.measured, row.clean) == (("T1",), ("FLAIR",))
