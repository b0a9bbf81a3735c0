"""Which slices are judged, what a row may say, and what is measured of draws and operators."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_app.grammar import sampler_of
from any2all_app.observer import SILENT
from any2all_core.noise import generator
from any2all_core.testing import AFFINE, MODALITIES, phantom, tiny_prior
from any2all_data.kinds import stack_format
from any2all_eval.classical import tikhonov, tuned
from any2all_eval.evaluation import Evaluation, evaluate
from any2all_eval.figures import time_figure
from any2all_eval.metrics import scores
from any2all_eval.patients import Slices
from any2all_eval.references import TIKHONOV
from any2all_eval.statistics import Mean
from any2all_eval.study import Study, read_study
from any2all_eval.tables import Line
from any2all_eval.uncertainty import uncertainty
from any2all_operators import Identity, UserError

BENCH = Path(__file__).parents[2] / "bench/studies"
THREE = stack_format(MODALITIES, (32, 32))
ROWS = """
samplers = ["mds:steps=2"]

[[rows]]
name = "FLAIR from T1, {through} mm"
known = "T1=clean"
scored = "FLAIR"
through = [0, 30]

[[rows]]
name = "noisy"
known = "FLAIR=clean:noise_std=0.2"
scored = "FLAIR"
samplers = ["mds:steps=3"]
"""


def study(folder: Path, text: str) -> Study:
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(str(path), THREE)


def test_slices_are_spread_or_every_so_many_or_next_to_each_other() -> None:
    assert Slices().of(4) == [0, 1, 2, 3]
    assert Slices(every=4).of(10) == [0, 4, 8]
    assert Slices(2).of(9) == [3, 6]
    assert Slices(4, adjacent=True).of(9) == [2, 3, 4, 5]
    assert Slices(4, adjacent=True).of(3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slices": 2, "every": 2}, "--slices and --every both choose the slices"),
        ({"adjacent": True}, "Give --slices N with it"),
        ({"every": 0}, "expected 1 or more"),
    ],
)
def test_choices_of_slices_that_contradict_each_other_are_refused(
    options: dict[str, int], said: str
) -> None:
    with pytest.raises(UserError) as mistake:
        Evaluation(studies=["readme"], input="nowhere", **options)  # type: ignore[arg-type]
    assert said in str(mistake.value)


def test_a_row_has_samplers_and_noise_of_its_own(tmp_path: Path) -> None:
    found = study(tmp_path, ROWS)
    apart, alike, noisy = found.rows
    assert (apart.name, apart.through) == ("FLAIR from T1, 0 mm", 0)
    assert (alike.name, alike.through) == ("FLAIR from T1, 30 mm", 30)
    assert found.samplers == ("mds:steps=2", "mds:steps=3")
    assert found.samplers_of(apart) == ("mds:steps=2",)
    assert found.samplers_of(noisy) == ("mds:steps=3",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("through = -1", "through = -1; expected mm"),
        ("through = [1, true]", "through = True; expected mm"),
        ("through = 'far'", "through = 'far'; expected mm"),
        ("samplers = []", "samplers = []; expected texts"),
        ("samplers = 'mds'", "samplers = mds; expected texts"),
    ],
)
def test_mistakes_in_a_row_are_told(tmp_path: Path, line: str, said: str) -> None:
    row = f"[[rows]]\nname = 'a {{through}}'\nknown = 'T1=clean'\n{line}"
    with pytest.raises(UserError) as mistake:
        study(tmp_path, row)
    assert said in str(mistake.value)


@pytest.mark.parametrize("path", sorted(BENCH.glob("*.toml")), ids=lambda path: path.stem)
def test_studies_of_bench_have_rows_and_samplers_that_there_are(path: Path) -> None:
    found = read_study(str(path), THREE)
    assert found.rows
    assert not found.left_out
    for text in found.samplers:
        if not text.startswith("deepinv"):
            sampler_of(text)


def test_psnr_against_the_maximum_of_each_slice() -> None:
    truth = torch.rand(2, 16, 16, generator=generator(1)) * torch.tensor([0.5, 1.0])[:, None, None]
    image = (truth + 0.05).clamp(0, 1)
    found = scores(image, truth, torch.ones_like(truth, dtype=torch.bool))
    peak = truth.amax((1, 2))
    mse = (image - truth).square().mean((1, 2))
    assert found["psnr_max"] == pytest.approx((10 * (peak**2 / mse).log10()).tolist(), abs=1e-3)


def test_an_interval_that_is_widened_by_its_factor_holds_nine_tenths() -> None:
    normal = torch.randn(9, 2, 64, 64, generator=generator(8))
    head = torch.ones(2, 64, 64, dtype=torch.bool)
    truth, mean, std = normal[0], normal[1:].mean(0), normal[1:].std(0) / 3
    found = uncertainty(mean, std, truth, head, draws=8)
    assert found["interval_factor"] == pytest.approx([3, 3], abs=0.2)
    for b, factor in enumerate(found["interval_factor"]):
        widened = uncertainty(mean, factor * std, truth, head, draws=8)
        assert widened["coverage"][b] == pytest.approx(0.9, abs=1e-3)


def test_more_steps_of_a_sampler_are_a_line_against_time() -> None:
    texts = ("mds:steps=50", "mds", "mps")
    asked = Study("s", "A study", texts, 1, (), {})
    mean = Mean(30.0, 29.0, 31.0, 4)
    lines = [
        Line(("s", "y(FLAIR)", text, "FLAIR"), "of [0, 1]", {"psnr": mean}, seconds, None, None)
        for text, seconds in (*zip(texts, (5.0, 2.0, 70.0), strict=True), ("CG-SENSE", 1.0))
    ]
    figure = time_figure(asked, lines)
    assert figure is not None
    drawn = [np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines]
    assert drawn == [[2.0, 5.0], [70.0]], "ordered by time, without references"
    assert time_figure(asked, lines[1:]) is None, "no sampler is there twice"


def test_tikhonov_is_tuned_and_better_than_least_squares() -> None:
    """Of noisy images y = x + n the best weight is near the ratio of noise to signal."""
    truths = [0.2 * torch.randn(2, 32, 32, generator=generator(k)) + 0.5 for k in range(2)]
    data = [x + 0.3 * torch.randn(x.shape, generator=generator(9)) for x in truths]
    operator = Identity(0.3)
    weight = tuned(lambda weight: tikhonov(operator, weight), data, truths)
    found = tikhonov(operator, weight)(data[0])
    torch.testing.assert_close(found, data[0] / (1 + weight))
    assert weight > 0.05


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two priors, and two patients, one of val and one of test."""
    folder = tmp_path_factory.mktemp("studies")
    for levels in ("shared", "separate"):
        tiny_prior(levels=levels).save(folder / levels)
    for seed, group in enumerate(("val", "test")):
        patient = folder / "people" / group / "a"
        patient.mkdir(parents=True)
        for k, modality in enumerate(MODALITIES):
            image = nib.Nifti1Image(phantom(depth=6, seed=9 * seed + k), AFFINE)
            nib.save(image, patient / f"{modality}.nii.gz")
    return folder


def evaluated(folder: Path, study: str, prior: str, **options: Any) -> list[dict[str, str]]:
    """The lines of results.csv."""
    asked = Evaluation(
        studies=[study],
        input=str(folder / "people"),
        prior=str(folder / prior),
        precision="float32",
        shown=0,
        **options,
    )
    output = folder / Path(study).stem
    assert evaluate(asked, output, SILENT)
    with (output / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, str]]:
    """A run over adjacent slices."""
    path = folder / "rows.toml"
    path.write_text(ROWS)
    return evaluated(folder, str(path), "shared", slices=3, adjacent=True)


@pytest.mark.slow
def test_the_figures_of_the_readme_are_one_study(folder: Path) -> None:
    found = evaluated(folder, "readme", "separate", every=4, references=False)
    assert {int(r["slice"]) for r in found} == {0, 4}
    methods: dict[tuple[str, str], list[str]] = {}
    for record in found:
        if record["slice"] == "0":
            methods.setdefault((record["row"], record["image"]), []).append(record["method"])
    assert methods == {
        ("y(FLAIR)", "FLAIR"): ["mds"],
        ("y(FLAIR)+T1", "FLAIR"): ["mds"],
        ("y(FLAIR)+T1&T1Gd", "FLAIR"): ["mds"],
        ("y(all MR)", "T1"): ["mds"],
        ("y(all MR)", "FLAIR"): ["mds"],
        ("y(all MR)", "T1Gd"): ["mds"],
        ("FLAIR from T1", "FLAIR"): ["mds", "mean"],
        ("FLAIR from T1&T1Gd", "FLAIR"): ["mds", "mean"],
    }


def test_a_run_takes_adjacent_slices_and_each_row_its_own_samplers(
    results: list[dict[str, str]],
) -> None:
    assert sorted({int(r["slice"]) for r in results}) == [1, 2, 3]
    of_row: dict[str, set[str]] = {}
    for record in results:
        of_row.setdefault(record["row"], set()).add(record["method"])
    assert of_row["noisy"] == {"mds:steps=3", TIKHONOV}
    assert of_row["FLAIR from T1, 30 mm"] == {"mds:steps=2", "copy"}


def test_noise_that_goes_on_across_slices_flickers_less(results: list[dict[str, str]]) -> None:
    def flicker(row: str) -> float:
        steps = [
            float(r["through_plane"])
            for r in results
            if (r["row"], r["method"]) == (row, "mds:steps=2") and r["through_plane"]
        ]
        assert len(steps) == 2
        return float(np.mean(steps))

    assert flicker("FLAIR from T1, 30 mm") < 0.8 * flicker("FLAIR from T1, 0 mm")
