"""Scores of images and sets of images, and their statistics."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_core.noise import generator
from any2all_core.testing import phantom
from any2all_data.metrics import at_best_scale, best_scale
from any2all_eval import metrics
from any2all_eval.frechet import features, frechet
from any2all_eval.generation import judge
from any2all_eval.lesions import spots
from any2all_eval.metrics import fid, scores, through_plane
from any2all_eval.statistics import by_patient, difference, mean_of
from any2all_eval.uncertainty import uncertainty
from any2all_operators import UserError
from builders.records import records


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
