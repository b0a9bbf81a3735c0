"""From a prior and a measurement to images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Unpack

import torch
from any2all_operators import Array, BlockDiagonal, Data, Measurement, UserError, Zero, as_tensor
from torch import Tensor

from any2all_core.drawing import Drawing, DrawOptions
from any2all_core.noise import Noise, generator
from any2all_core.prior import BundledPrior, DiffusionPrior, Prior
from any2all_core.registry import find_plugin, make_plugin
from any2all_core.sampler import Sampled, Sampler, Solver

HUB = "hf:"


def load_prior(name: str | Path, precision: str = "auto", device: str = "auto") -> DiffusionPrior:
    """Load a prior.

    Parameters
    ----------
    name
        A folder written by training, ``hf:OWNER/NAME[@REVISION]`` on the Hugging Face Hub, or the
        name of an installed prior.
    precision
        "float32", "bfloat16", or "auto": bfloat16 where the hardware multiplies it.
    device
        As torch names it, or "auto": a GPU where there is one.

    Raises
    ------
    UserError
        Where there is no such prior, or its files are damaged.
    """
    return DiffusionPrior.load(prior_folder(name), precision, device)


def prior_folder(name: str | Path) -> Path:
    """Where a prior's files lie: ``name`` itself if it is a folder, else what its plugin says.

    ``hf:OWNER/NAME[@REVISION]`` is one on the Hugging Face Hub, fetched once into its cache.
    """
    if Path(name).is_dir():
        return Path(name)
    if str(name).startswith(HUB):
        return _from_hub(str(name).removeprefix(HUB))
    if isinstance(name, Path) or "/" in name:
        raise UserError(
            f"{name}: no such folder; expected one written by 'train', or a plugin's name"
        )
    return bundled_prior(name).folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        found = snapshot_download(
            repository, revision=revision or None, allow_patterns=["*.json", "*.safetensors"]
        )
    except Exception as error:  # the Hub's and the network's many
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{HUB}{name}: not fetched ({type(error).__name__}: {reason}); check the name, the "
            "network, and for a private one huggingface-cli login"
        ) from None
    return Path(found)


def bundled_prior(name: str) -> BundledPrior:
    """The installed prior of a name."""
    plugin = find_plugin("any2all.priors", name)
    bundled = plugin.load()
    if not isinstance(bundled, BundledPrior):
        raise UserError(
            f"prior {name!r} of {plugin.distribution} is a {type(bundled).__name__}, not a "
            "BundledPrior; tell its author"
        )
    return bundled


def make_sampler(
    name: str, options: Mapping[str, str] | None = None, preset: str | None = None
) -> Sampler:
    """Make a sampler of its name.

    Parameters
    ----------
    name
        Of an installed sampler, as "mds".
    options
        {option: value as text}, as on the command line.
    preset
        A named setting of the sampler that replaces its defaults, as "paper"; ``options`` win over
        it.

    Raises
    ------
    UserError
        For an unknown name, option or value.
    """
    sampler: Sampler = make_plugin("any2all.samplers", name, options or {}, preset)
    return sampler


class Knowing(Protocol):
    """A prior, a method or a solver: what knows some modalities."""

    @property
    def modalities(self) -> tuple[str, ...]: ...


def complete(operator: BlockDiagonal, prior: Knowing) -> BlockDiagonal:
    """The operator with every modality of the prior, in its order; absent ones are missing."""
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
    """Draw whole stacks x ~ p(x | y): (draws, B, M, H, W) on the [0, 1] scale.

    ``data``: {modality: y_m (B, ...)} for what is known, torch tensors or NumPy arrays; a modality
    that is absent is missing. Each operator checks its data: shape, kind of numbers, and whether it
    can be that of an image in [0, 1]. Raises UserError otherwise.
    Noise-free modalities (noise_std 0) come out fitting their data exactly: a clean image as it
    went in. Entry (d, b) depends on (seed, slice_ids[b], d) alone.
    options: see :class:`Drawing`, such as ``draws=4, seed=1``.
    Computed where the prior's weights are; operator and data may be anywhere.
    Source: arXiv 2602.08249.
    """
    draw = make_sampler(sampler) if isinstance(sampler, str) else sampler
    return solve(Sampled(prior, draw), operator, data, **options)


def solve(
    solver: Solver,
    operator: BlockDiagonal,
    data: Mapping[str, Array],
    **options: Unpack[DrawOptions],
) -> Tensor:
    """What any solver answers, (draws, B, M, H, W) on the [0, 1] scale; see :func:`reconstruct`."""
    asked = Drawing(**options)
    if asked.draws > 1 and not solver.random:
        raise UserError(
            f"{asked.draws} draws: {solver.name} has one answer, whatever the seed; ask for one, "
            "or take a sampler that draws"
        )
    stray = set(data) - set(operator.modalities)
    if stray:
        raise UserError(f"data of {', '.join(sorted(stray))} has no operator; name one for each")
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
                f"{name}: data of {len(y)} slices, expected {slices} as the others have"
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
    """Measure known images virtually: y = A x + n.

    The noise of a slice depends on (seed, slice id, modality) alone.

    Parameters
    ----------
    operator
        A.
    stack
        x, (B, M, H, W) in [0, 1], of the operator's modalities in their order.
    seed
        Seed of the noise.
    slice_ids
        Numbers of the slices; 0 ... B−1 if not given.

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
    """The stack clipped to [0, 1]; then noise-free modalities moved onto their data."""
    images = list(stack.clamp(0, 1).unbind(1))
    for m, (name, block) in enumerate(measurement.operator.operators.items()):
        if not block.noise_std:
            data = measurement.data[name]
            images[m] = block.near(data, images[m]).prox(data, images[m], math.inf)
    return torch.stack(images, 1)


def infer_shape(operator: BlockDiagonal, data: Data) -> tuple[int, int, int]:
    """(B, H, W) from any modality that has data."""
    for name, block in operator.operators.items():
        if name in data and not isinstance(block, Zero):
            batch, height, width = block.adjoint(data[name]).shape
            return batch, height, width
    raise UserError("no modality has data; say shape=(slices, H, W) to draw images from nothing")


def batches(count: int, size: int) -> Iterator[range]:
    """The places 0 ... count − 1 in parts of ``size``, the last of what is left."""
    for first in range(0, count, size):
        yield range(first, min(first + size, count))
