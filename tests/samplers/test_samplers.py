"""Samplers, against a prior for which the answer is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from any2all_core import (
    DiffusionPrior,
    Noise,
    Prior,
    Sampler,
    check_sampler,
    reconstruct,
    simulate,
)
from any2all_core.noise import generator
from any2all_core.oracle import cases, posterior_error
from any2all_core.prior import Times
from any2all_operators import BlockDiagonal, Identity, Measurement, UserError, Zero
from any2all_samplers import DDPM, MDS, MMPS, MPS
from builders.samplers import COVARIANCE, MEAN, SIZE, two_correlated_images
from builders.scans import cartesian_scan
from torch import Tensor


def test_ddpm_draws_from_the_prior() -> None:
    prior = two_correlated_images()
    x = 2 * reconstruct(prior, BlockDiagonal({}), {}, DDPM(1000), shape=(16, SIZE, SIZE))[0] - 1
    values = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), MEAN, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(values), COVARIANCE, atol=0.006, rtol=0)


def test_ddpm_refuses_data_it_would_ignore() -> None:
    prior = two_correlated_images()
    with pytest.raises(UserError, match="would ignore T1"):
        reconstruct(
            prior,
            BlockDiagonal({"T1": Identity()}),
            {"T1": prior.draw(1, generator(7))[:, 0]},
            DDPM(5),
        )


@pytest.mark.parametrize(
    ("sampler", "tolerance"), [(MDS(50), 0.05), (MPS(100, zeta=0.15), 0.05)], ids=["mds", "mps"]
)
def test_a_missing_image_follows_the_clean_one(sampler: MDS | MPS, tolerance: float) -> None:
    """The mean of draws is near E[FLAIR | T1] and far nearer to it than to E[FLAIR]."""
    prior = two_correlated_images()
    t1 = prior.draw(2, generator(7))[:, 0]
    draws = reconstruct(prior, BlockDiagonal({"T1": Identity()}), {"T1": t1}, sampler, draws=24)
    assert torch.equal(draws[:, :, 0], t1.expand_as(draws[:, :, 0]))
    known = Measurement(
        BlockDiagonal({"T1": Identity(), "FLAIR": Zero()}), {"T1": t1, "FLAIR": torch.zeros(2, 0)}
    )
    expected = prior.posterior(known).mean[:, 1]
    error = (draws[:, :, 1].mean(0) - expected).square().mean().sqrt()
    without = ((1 + MEAN[1]) / 2 - expected).square().mean().sqrt()
    assert float(error) < tolerance
    assert float(error) < 0.6 * float(without)


def test_mds_reconstructs_k_space() -> None:
    """Nearer to the truth than the answer without a prior, and as near to the data as its noise."""
    prior = two_correlated_images()
    truth = prior.draw(4, generator(7))
    scan = cartesian_scan(SIZE, acceleration=3, coils=4, acs_lines=4, noise_std=0.02)
    operator = BlockDiagonal({"T1": Identity(), "FLAIR": scan})
    data = simulate(operator, truth, seed=3)
    result = reconstruct(prior, operator, data, MDS(30), draws=8).mean(0)
    plain = scan.prox(data["FLAIR"], torch.zeros_like(truth[:, 1]), 100.0)
    error, without = ((u - truth[:, 1]).square().mean() for u in (result[:, 1], plain))
    assert float(error) < 0.7 * float(without)
    taken = int(data["FLAIR"][0].count_nonzero()) * 2
    rms = Measurement(operator, data).residual(result)["FLAIR"] / taken**0.5
    assert 0.015 < float(rms.mean()) < 0.025


@pytest.mark.slow
def test_the_data_counts_to_the_end_where_a_prior_is_never_exact() -> None:
    """A prior whose every answer is off by 0.03 is put right by the data if it says so."""

    class Off:
        modalities: tuple[str, ...] = ("T1", "FLAIR")
        schedule = two_correlated_images().schedule

        def __init__(self, floor: float) -> None:
            self.error_floor = floor

        def denoise(self, x_t: Tensor, t: Times) -> Tensor:
            return two_correlated_images().denoise(x_t, t) + 0.06

    truth = two_correlated_images().draw(2, generator(7))
    scan = cartesian_scan(SIZE, acceleration=2, coils=4, acs_lines=4, noise_std=0.005)
    operator = BlockDiagonal({"T1": scan, "FLAIR": scan})
    data = simulate(operator, truth)
    errors = [
        float((reconstruct(Off(floor), operator, data, MDS(30)) - truth).square().mean().sqrt())
        for floor in (0.0, 0.03)
    ]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.slow
def test_mds_bias_is_what_is_documented() -> None:
    """It fits the data, but is too sure of it."""
    (found,) = posterior_error(MDS(), cases()["A clean"], draws=128).values()
    assert 0.15 < found.bias < 0.4
    assert 0.55 < found.spread < 0.8


@pytest.mark.parametrize(
    "sampler", [DDPM(12), MPS(12), MMPS(12), MDS(12), MDS(12, eta=0.5, weight=5.0)]
)
def test_n_steps_are_n_network_calls_and_ticks(sampler: DDPM | MPS | MDS) -> None:
    prior = two_correlated_images()
    ticks: list[None] = []
    reconstruct(
        prior,
        BlockDiagonal({}),
        {},
        sampler,
        shape=(2, SIZE, SIZE),
        progress=lambda: ticks.append(None),
    )
    assert len(prior.calls) == len(set(prior.calls)) == len(ticks) == 12
    assert (prior.calls[0], prior.calls[-1]) == (999, 0)


@pytest.mark.parametrize("sampler", [MPS(8), MDS(8)])
def test_a_slice_is_the_same_in_any_batch(sampler: MPS | MDS) -> None:
    prior = two_correlated_images()
    truth = prior.draw(3, generator(7))
    scan = cartesian_scan(SIZE, acceleration=2, coils=2, acs_lines=2)
    operator = BlockDiagonal({"FLAIR": scan})
    data = simulate(operator, truth)
    options: dict[str, Any] = {"sampler": sampler, "seed": 5, "draws": 2}
    together = reconstruct(prior, operator, data, batch_size=6, **options)
    singly = reconstruct(prior, operator, data, batch_size=1, **options)
    torch.testing.assert_close(together, singly, atol=1e-4, rtol=0)
    last = {"FLAIR": data["FLAIR"][2:]}
    alone = reconstruct(prior, operator, last, slice_ids=[2], **options)
    torch.testing.assert_close(alone[:, 0], together[:, 2], atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [MPS(3), MMPS(3, iterations=2)], ids=["mps", "mmps"])
def test_recomputed_activations_save_memory_and_change_nothing(
    prior_folder: Path, sampler: MPS | MMPS
) -> None:
    made, held = [], []
    for frugal in (False, True):
        prior = DiffusionPrior.load(prior_folder, "float32")
        if frugal:
            prior.save_memory()
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        t1 = torch.rand(1, 32, 32, generator=generator(7))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            operator = BlockDiagonal({"T1": Identity()})
            made.append(reconstruct(prior, operator, {"T1": t1}, sampler))
        held.append(kept)
    torch.testing.assert_close(*made)
    assert held[1] < 0.5 * held[0]


def test_draws_through_the_slices_go_on_from_one_to_the_next() -> None:
    """And each slice is still drawn from the posterior."""
    prior = two_correlated_images()
    t1 = prior.draw(1, generator(7))[:, 0].repeat(6, 1, 1)
    options: dict[str, Any] = {"sampler": MMPS(20), "draws": 16}
    operator = BlockDiagonal({"T1": Identity()})
    apart, along = (
        reconstruct(prior, operator, {"T1": t1}, through=length, **options)[:, :, 1]
        for length in (0.0, 2.0)
    )
    step = [float((x[:, 1:] - x[:, :-1]).std()) for x in (apart, along)]
    assert step[1] < 0.6 * step[0]
    assert float(along.std(0).mean()) == pytest.approx(float(apart.std(0).mean()), rel=0.1)


def test_what_does_not_fit_is_told() -> None:
    prior = two_correlated_images()
    with pytest.raises(UserError, match="unknown modality CT; this prior knows T1, FLAIR"):
        reconstruct(prior, BlockDiagonal({"CT": Zero()}), {})
    with pytest.raises(UserError, match="T1 has an operator, Identity, but no data"):
        reconstruct(prior, BlockDiagonal({"T1": Identity()}), {}, shape=(1, 4, 4))
    with pytest.raises(UserError, match="data of T1 has no operator"):
        reconstruct(prior, BlockDiagonal({}), {"T1": prior.draw(1, generator(7))[:, 0]})
    with pytest.raises(UserError, match="T1: its data holds NaN"):
        reconstruct(
            prior, BlockDiagonal({"T1": Identity()}), {"T1": torch.full((1, 4, 4), torch.nan)}
        )
    with pytest.raises(UserError, match="say shape="):
        reconstruct(prior, BlockDiagonal({}), {})


@pytest.mark.parametrize(
    "sampler", [DDPM(20), MDS(20), MMPS(20), MPS(100)], ids=["ddpm", "mds", "mmps", "mps"]
)
def test_samplers_keep_their_contract(sampler: Sampler) -> None:
    assert check_sampler(sampler)["batch"] < 1e-4


@dataclass(frozen=True)
class Careless:
    """A sampler with one mistake."""

    mistake: str
    steps: int = 4

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:
        x = noise()
        count = self.steps + (self.mistake == "one call too many")
        for t in prior.schedule.timesteps(count):
            x = prior.denoise(x, t)
            if progress and self.mistake != "no progress":
                progress()
        if self.mistake == "mixes the batch":
            x = x + 0.1 * len(x)
        if self.mistake == "not a number":
            x = x * float("nan")
        return (x + 1) / 2


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("one call too many", "5 network calls at 5 times; expected steps = 4"),
        ("no progress", "progress called 0 times"),
        ("mixes the batch", "an entry alone differs"),
        ("not a number", "expected finite"),
        ("ignores the data", "correlation with the given one"),
    ],
)
def test_check_sampler_names_what_fails(mistake: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_sampler(Careless(mistake))
