"""A noise level for each modality: what is there is conditioned on exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from any2all_core import (
    Conditioning,
    DiffusionPrior,
    GaussianPrior,
    PriorSettings,
    StackFormat,
    check_sampler,
    reconstruct,
    simulate,
)
from any2all_core.conditioning import CLEAN
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.oracle import cases, mode_shares, posterior_error, smooth_images
from any2all_core.testing import MODALITIES, TINY_RECIPE
from any2all_operators import BlockDiagonal, Identity, Measurement, UserError, Zero
from any2all_samplers import MCS, MDS, MMPS, MPS, Mean
from builders.scans import cartesian_scan

LAST = 999


def known(prior: GaussianPrior, noise_std: float, seed: int = 7) -> Measurement:
    """A of two images, with noise; B is missing."""
    truth = prior.draw(2, generator(seed))
    operator = BlockDiagonal({"A": Identity(noise_std), "B": Zero()})
    return Measurement(operator, simulate(operator, truth))


@pytest.mark.parametrize("noise_std", [0.0, 0.08])
def test_one_call_is_the_posterior_mean(noise_std: float) -> None:
    """Of a Gaussian prior, for a clean image and for one whose noise is that of its level."""
    prior = smooth_images("separate")
    measurement = known(prior, noise_std)
    found = reconstruct(
        prior, measurement.operator, {"A": measurement.data["A"]}, Mean(), shape=(2, 8, 8)
    )[0]
    torch.testing.assert_close(found, prior.posterior(measurement).mean.float(), atol=4e-3, rtol=0)
    assert prior.calls == [LAST]


@pytest.mark.slow
@pytest.mark.parametrize("case", list(cases()))
def test_mcs_draws_from_the_posterior_in_20_calls(case: str) -> None:
    for name, found in posterior_error(MCS(), cases()[case], draws=128, levels="separate").items():
        assert found.bias < 0.15
        # of what is known but for little noise, 20 steps leave a part
        few = case == "A noisy" and name == "A"
        assert found.spread == pytest.approx(1, abs=0.6 if few else 0.13)


@pytest.mark.slow
def test_mcs_gives_each_mode_its_share() -> None:
    pairs = mode_shares(MCS(), draws=128, levels="separate")
    assert {exact > 0.5 for exact, _ in pairs} == {True, False}
    for exact, found in pairs:
        assert found == pytest.approx(exact, abs=0.15)


@pytest.mark.slow
def test_mcs_spread_is_right_where_the_steps_are_many() -> None:
    for found in posterior_error(
        MCS(60), cases()["A noisy"], draws=128, levels="separate"
    ).values():
        assert found.spread == pytest.approx(1, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "bias"), [(MDS(), 0.12), (MPS(), 0.12), (MMPS(), 0.12)], ids=["mds", "mps", "mmps"]
)
def test_what_is_missing_follows_what_is_clean(sampler: MDS | MPS | MMPS, bias: float) -> None:
    """With one level for all, MDS is 0.3 to 0.4 of the posterior's standard deviation off."""
    (found,) = posterior_error(sampler, cases()["A clean"], draws=128, levels="separate").values()
    assert found.bias < bias


@pytest.mark.parametrize("sampler", [MCS(20), Mean()], ids=["mcs", "mean"])
def test_samplers_keep_their_contract(sampler: MCS | Mean) -> None:
    """Those that take both kinds of prior are tested on both in test_samplers."""
    assert check_sampler(sampler)["batch"] < 1e-4


def test_samplers_that_need_a_level_for_each_say_so() -> None:
    prior = smooth_images()
    measurement = known(prior, 0.0)
    data = {"A": measurement.data["A"]}
    for sampler, word in ((MCS(), "use mmps"), (Mean(), "--draws 8")):
        with pytest.raises(UserError, match=word):
            reconstruct(prior, measurement.operator, data, sampler)
    scan = cartesian_scan(8, acceleration=2, coils=2, acs_lines=2)
    separate = smooth_images("separate")
    operator = BlockDiagonal({"B": scan})
    y = simulate(operator, separate.draw(1, generator(3))[:, 1:])
    with pytest.raises(UserError, match="mean takes images, and B was measured"):
        reconstruct(separate, operator, y, Mean())
    with pytest.raises(UserError, match="expected 1"):
        Mean(2)
    with pytest.raises(UserError, match="8 draws: mean has one answer"):
        reconstruct(separate, BlockDiagonal({}), {}, Mean(), shape=(1, 8, 8), draws=8)


def test_an_image_is_held_until_the_others_are_as_good() -> None:
    prior = smooth_images("separate")
    measurement = known(prior, 0.1)
    conditioning = Conditioning(prior, measurement)
    noise = torch.randn(2, 2, 8, 8, generator=generator(1))
    x_t = conditioning.begin(noise)
    path = conditioning.path(12)
    held = path[0][0]
    assert float(prior.schedule.sigma[held]) == pytest.approx(0.2, abs=0.01)
    assert [missing for _, missing in path] == [*prior.schedule.timesteps(12), CLEAN]
    assert [image for image, _ in path] == [min(held, missing) for _, missing in path]
    assert conditioning.told(path[-1]) == [0, 0]
    signal = float(prior.schedule.alpha_bar[held]) ** 0.5
    torch.testing.assert_close(x_t[:, 0], signal * (2 * measurement.data["A"] - 1))
    assert torch.equal(x_t[:, 1], noise[:, 1])
    moved = conditioning.hold(x_t, torch.zeros_like(x_t), path[0], path[1])
    assert torch.equal(moved[:, 0], x_t[:, 0])
    assert not moved[:, 1].any()
    assert not conditioning.hold(x_t, torch.zeros_like(x_t), path[-2], path[-1]).any()
    assert conditioning.guided == ()
    shared = Conditioning(smooth_images(), measurement)
    assert shared.guided == ("A",)
    assert shared.told((500, 500)) == 500
    assert torch.equal(shared.begin(noise), noise)


def test_what_was_measured_goes_ahead_of_what_is_missing() -> None:
    prior = smooth_images("separate")
    scan = cases()["A, B k-space"]["B"]
    operator = BlockDiagonal({"A": Zero(), "B": scan})
    measurement = Measurement(operator, simulate(operator, prior.draw(1, generator(2))))
    conditioning = Conditioning(prior, measurement)
    assert conditioning.guided == ("B",)
    path = conditioning.path(9, ahead=True)
    assert [a for a, _ in path] == [LAST] * 4 + [*prior.schedule.timesteps(5), CLEAN]
    assert [b for _, b in path] == [*prior.schedule.timesteps(4), *[CLEAN] * 6]
    assert len(set(conditioning.path(9)[4])) == 1
    for one in (conditioning.path(1, ahead=True), conditioning.path(1)):
        assert one == [(LAST, LAST), (CLEAN, CLEAN)]
    shared = Conditioning(smooth_images(), measurement)
    assert shared.path(6, ahead=True) == shared.path(6)


def test_what_is_missing_does_not_enter_the_network(prior: DiffusionPrior) -> None:
    """At T−1 its content has no part in the others' answer; at any earlier time it has."""
    x = torch.randn(2, 3, 32, 32, generator=generator(2))
    other = x.clone()
    other[:, 2] = torch.randn(2, 32, 32, generator=generator(3))
    separate = separate_prior()
    one, two = (separate.denoise(stack, [0, 400, LAST])[:, :2] for stack in (x, other))
    assert torch.equal(one, two)
    earlier = (separate.denoise(stack, [0, 400, LAST - 1])[:, :2] for stack in (x, other))
    assert not torch.equal(*earlier)
    assert torch.equal(separate.denoise(x, 300), separate.denoise(x, [300] * 3))
    with pytest.raises(UserError, match="one noise level for all modalities"):
        prior.denoise(x, [0, 400, LAST])
    assert torch.equal(prior.denoise(x, [300] * 3), prior.denoise(x, 300))
    with pytest.raises(UserError, match="2 times; expected one, or one for each of 3"):
        separate.denoise(x, [0, 400])


def test_levels_are_kept_with_the_prior(tmp_path: Path) -> None:
    separate = separate_prior()
    separate.save(tmp_path / "prior")
    again = DiffusionPrior.load(tmp_path / "prior", "float32", "cpu")
    assert again.levels == "separate"
    x = torch.randn(1, 3, 32, 32, generator=generator(2))
    torch.testing.assert_close(again.denoise(x, [0, 5, LAST]), separate.denoise(x, [0, 5, LAST]))


def separate_prior() -> DiffusionPrior:
    torch.manual_seed(0)
    settings = PriorSettings(StackFormat.of_names(MODALITIES, (32, 32)), levels="separate")
    return build_prior(TINY_RECIPE, settings).eval().requires_grad_(False)
