"""A contract test for authors of samplers."""

from __future__ import annotations

from dataclasses import replace

import torch
from any2all_operators import BlockDiagonal, Identity, UserError
from torch import Tensor

from any2all_core.gaussian import GaussianPrior
from any2all_core.prior_settings import Levels
from any2all_core.reconstruct import reconstruct
from any2all_core.sampler import Sampler

SIZE = 8
TOLERANCE = 1e-4


def check_sampler(sampler: Sampler) -> dict[str, float]:
    """Test a sampler on a Gaussian prior of two modalities.

    It is tested without data and with the first modality given. The prior has one noise level
    shared by both modalities, and then separate levels. A sampler that needs separate levels must
    raise a UserError for the first prior, and is then tested on the second one alone. The tested
    properties are:

    - the result is finite and of shape (B, M, H, W)
    - the network is called ``steps`` times at distinct, falling times, and ``progress`` as often
    - an entry has the same result alone and in a batch
    - for a sampler that uses data, the missing modality correlates with the given one

    Parameters
    ----------
    sampler
        The sampler to test.

    Returns
    -------
    dict
        "batch", the largest difference between entries alone and in a batch, and, for a sampler
        that uses data, "correlation", the correlation found.

    Raises
    ------
    AssertionError
        If a property fails. The message names it.
    """
    try:
        found = _check(sampler, "shared")
    except UserError:
        return _check(sampler, "separate")
    both = _check(sampler, "separate")
    return {name: max(value, both[name]) for name, value in found.items()}


def _check(sampler: Sampler, levels: Levels) -> dict[str, float]:
    pixels = GaussianPrior.of_pixels(
        ("A", "B"), torch.zeros(2), torch.tensor([[0.06, 0.05], [0.05, 0.06]]), (SIZE, SIZE)
    )
    prior = replace(pixels, levels=levels)
    name = type(sampler).__name__
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    def draw(given: Tensor | None, ids: list[int], batch_size: int) -> Tensor:
        operator = BlockDiagonal({} if given is None else {"A": Identity()})
        data = {} if given is None else {"A": given[ids]}
        shape = (len(ids), SIZE, SIZE)
        return reconstruct(
            prior, operator, data, sampler,
            shape=shape, slice_ids=ids, batch_size=batch_size, progress=tick,
        )[0]  # fmt: skip

    stack = draw(None, [0, 1], 2)
    if prior.calls != sorted(set(prior.calls), reverse=True) or len(prior.calls) != sampler.steps:
        raise AssertionError(
            f"{name}: {len(prior.calls)} network calls at {len(set(prior.calls))} times; expected "
            f"steps = {sampler.steps} at distinct, falling times"
        )
    if ticks != sampler.steps:
        raise AssertionError(f"{name}: progress called {ticks} times, expected {sampler.steps}")
    if stack.shape != (2, 2, SIZE, SIZE) or not bool(torch.isfinite(stack).all()):
        raise AssertionError(f"{name}: result {tuple(stack.shape)}, expected finite (2, 2, H, W)")
    image = 0.5 + 0.15 * torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    try:
        together = draw(image, [0, 1], 2)
    except UserError:  # an unconditional sampler refuses data
        return {"batch": _largest(draw(None, [0, 1], 1), stack, name, "an entry alone")}
    error = _largest(draw(image, [0, 1], 1), together, name, "an entry alone")
    pair = torch.stack([together[:, 1].flatten(), image.flatten()])
    correlation = float(torch.corrcoef(pair)[0, 1])
    if not correlation > 0.3:
        raise AssertionError(
            f"{name}: the missing modality's correlation with the given one is {correlation:.2f}, "
            "but that of the prior is 0.83"
        )
    return {"batch": error, "correlation": correlation}


def _largest(given: Tensor, expected: Tensor, name: str, what: str) -> float:
    error = float((given - expected).abs().max())
    if not error <= TOLERANCE:
        raise AssertionError(f"{name}: {what} differs by {error:.1e} from what it is in a batch")
    return error
