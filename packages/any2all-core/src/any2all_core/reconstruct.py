"""Reconstruction: from a prior and a measurement to images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, Unpack

import torch
from any2all_operators import Array, BlockDiagonal, Data, Measurement, UserError, Zero, as_tensor
from torch import Tensor

from any2all_core.drawing import Drawing, DrawOptions
from any2all_core.noise import Noise, generator
from any2all_core.prior import Prior
from any2all_core.registry import make_plugin
from any2all_core.sampler import Sampled, Sampler, Solver


def make_sampler(
    name: str, options: Mapping[str, str] | None = None, preset: str | None = None
) -> Sampler:
    """Make a sampler by its name.

    Parameters
    ----------
    name
        Name of an installed sampler, such as "mds".
    options
        {option: value as text}, as on the command line.
    preset
        Name of one of the sampler's presets, such as "paper". Its values replace the defaults, and
        ``options`` override it.

    Returns
    -------
    Sampler
        The sampler.

    Raises
    ------
    UserError
        If the name, the preset, an option or a value is unknown.
    """
    sampler: Sampler = make_plugin("any2all.samplers", name, options or {}, preset)
    return sampler


class Knowing(Protocol):
    """An object with modalities: a prior, a method or a solver."""

    @property
    def modalities(self) -> tuple[str, ...]: ...


def complete(operator: BlockDiagonal, prior: Knowing) -> BlockDiagonal:
    """The operator extended to every modality of the prior, in its order, with ``Zero`` blocks."""
    unknown = set(operator.modalities) - set(prior.modalities)
    if unknown:
        raise UserError(
            f"unknown modality {', '.join(sorted(unknown))}; this prior knows "
            f"{', '.join(prior.modalities)}"
        )
    return BlockDiagonal({m: operator.operators.get(m, Zero()) for m in prior.modalities})


def reconstruct(
    prior: Prior,
    operator: BlockDiagonal,
    data: Mapping[str, Array],
    sampler: Sampler | str = "mds",
    **options: Unpack[DrawOptions],
) -> Tensor:
    """Draw complete stacks x ~ p(x | y).

    The computation runs on the device of the prior; operator and data may be on any device.

    Parameters
    ----------
    prior
        The prior p(x) of M modalities.
    operator
        A, with one block per modality that has data.
    data
        {modality: y_m (B, ...)}, torch tensors or NumPy arrays. A modality of the prior without
        data is missing.
    sampler
        A sampler, or the name of an installed one.
    options
        Fields of :class:`any2all_core.drawing.Drawing`, such as ``draws=4, seed=1``.

    Returns
    -------
    Tensor
        x, (draws, B, M, H, W) on the [0, 1] scale. A noise-free modality (noise_std 0) fits its
        data exactly, so a clean image is unchanged. Entry (d, b) depends only on the arguments and
        on (seed, slice_ids[b], d).

    Raises
    ------
    UserError
        If an operator finds that its data has the wrong shape or type, or cannot belong to an image
        in [0, 1]; if the prior does not know a modality; or if the sampler refuses.

    References
    ----------
    arXiv 2602.08249.
    """
    draw = make_sampler(sampler) if isinstance(sampler, str) else sampler
    return solve(Sampled(prior, draw), operator, data, **options)


def solve(
    solver: Solver,
    operator: BlockDiagonal,
    data: Mapping[str, Array],
    **options: Unpack[DrawOptions],
) -> Tensor:
    """Complete stacks with any solver: a prior with its sampler, or a trained method.

    Parameters
    ----------
    solver
        The solver of M modalities.
    operator, data, options
        As in :func:`reconstruct`.

    Returns
    -------
    Tensor
        (draws, B, M, H, W) on the [0, 1] scale.

    Raises
    ------
    UserError
        As in :func:`reconstruct`, and if several draws are requested of a deterministic solver.
    """
    asked = Drawing(**options)
    if asked.draws > 1 and not solver.random:
        raise UserError(
            f"{asked.draws} draws: {solver.name} has one answer, whatever the seed; ask for one, "
            "or take a sampler that draws"
        )
    stray = set(data) - set(operator.modalities)
    if stray:
        raise UserError(f"data of {', '.join(sorted(stray))} has no operator; give one for each")
    operator = complete(operator, solver)
    given = {name: as_tensor(y, name) for name, y in data.items()}
    for name, block in operator.operators.items():
        if name not in given and not isinstance(block, Zero):
            raise UserError(f"{name} has an operator, {type(block).__name__}, but no data")
    for name, y in given.items():
        operator.operators[name].check(y, name)
    slices, height, width = asked.shape or infer_shape(operator, given)
    for name in solver.modalities:
        given.setdefault(name, torch.zeros(slices, 0))
    for name, y in given.items():
        if len(y) != slices:
            raise UserError(
                f"{name}: data of {len(y)} slices, expected {slices}, as for the other modalities"
            )
    ids = range(slices) if asked.slice_ids is None else asked.slice_ids
    operator = operator.estimated(given)
    device = solver.device
    operator = operator.to(device)
    given = {m: y.to(device) for m, y in given.items()}
    results = torch.empty(asked.draws, slices, len(solver.modalities), height, width)
    for places in batches(asked.draws * slices, asked.batch_size):
        target = results.view(-1, *results.shape[2:])[places.start : places.stop]
        if asked.kept is not None and (finished := asked.kept.get(places)) is not None:
            target.copy_(finished)
            continue
        entries = [(ids[place % slices], place // slices) for place in places]
        shape = (len(solver.modalities), height, width)
        noise = Noise.of_slices(asked.seed, entries, shape, device, through=asked.through)
        index = torch.tensor([place % slices for place in places]).to(device)
        part = Measurement(operator.select(index), {m: y[index] for m, y in given.items()})
        stack = solver(part, noise, asked.progress)
        target.copy_(project_onto_data(part, stack))
        if asked.kept is not None:
            asked.kept.put(places, target)
    return results


def simulate(
    operator: BlockDiagonal,
    stack: Tensor,
    seed: int = 0,
    slice_ids: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Simulate a measurement y = A x + n of known images.

    The noise of a slice depends only on (seed, slice id, modality).

    Parameters
    ----------
    operator
        A.
    stack
        x, (B, M, H, W) in [0, 1], of the operator's modalities in their order.
    seed
        Seed of the noise.
    slice_ids
        Numbers of the B slices; 0 ... B−1 if not given.

    Returns
    -------
    dict
        {modality: y_m (B, ...)}.
    """
    ids = range(len(stack)) if slice_ids is None else slice_ids
    data: dict[str, Tensor] = {}
    for m, (name, block) in enumerate(operator.operators.items()):
        generators = [generator(seed, place, 0, m + 1) for place in ids]
        data[name] = block.measure(stack[:, m], generators)
    return data


def project_onto_data(measurement: Measurement, stack: Tensor) -> Tensor:
    """The stack clipped to [0, 1], with noise-free modalities then fitted exactly to their data."""
    images = list(stack.clamp(0, 1).unbind(1))
    for m, (name, block) in enumerate(measurement.operator.operators.items()):
        if not block.noise_std:
            data = measurement.data[name]
            images[m] = block.near(data, images[m]).prox(data, images[m], math.inf)
    return torch.stack(images, 1)


def infer_shape(operator: BlockDiagonal, data: Data) -> tuple[int, int, int]:
    """(B, H, W), from any modality with data. Raises UserError if there is none."""
    for name, block in operator.operators.items():
        if name in data and not isinstance(block, Zero):
            batch, height, width = block.adjoint(data[name]).shape
            return batch, height, width
    raise UserError("no modality has data; say shape=(slices, H, W) to draw images from nothing")


def batches(count: int, size: int) -> Iterator[range]:
    """The places 0 ... count − 1 in ranges of ``size``; the last one may be shorter."""
    for first in range(0, count, size):
        yield range(first, min(first + size, count))
