"""A contract test for authors of methods."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch
from any2all_operators import UserError
from torch import Tensor

from any2all_core.examples import InMemory
from any2all_core.fitted import FittedMethod
from any2all_core.fitting import fit
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.method import Method, MethodSettings
from any2all_core.stack_format import StackFormat

NAMES = ("A", "B", "C")
SLICES = 6
TOLERANCE = 1e-3


def check_method(name: str, method: Method, size: tuple[int, int] = (32, 32)) -> dict[str, float]:
    """Test a method: train it for two steps on random slices of three modalities, and use it.

    The tested properties are:

    - it names its abilities and refuses other tasks with a UserError
    - its losses are finite and reach every part that they name, and its training can be resumed
    - for every subset of given images, the answer is finite, (B, M, H, W) in [0, 1], contains the
      given images bit for bit, and does not depend on the others
    - an entry has the same answer alone and in a batch
    - a saved folder can be loaded and used

    Parameters
    ----------
    name
        Name of the method's entry point, by which its folder is loaded.
    method
        The method with its options; two training steps should be quick.
    size
        (H, W) of the slices in pixels.

    Returns
    -------
    dict
        "batch", the largest difference between entries alone and in a batch.

    Raises
    ------
    AssertionError
        If a property fails. The message names it.
    """
    if not method.abilities:
        raise AssertionError(f"{name}: abilities is empty; expected the tasks of the method")
    targets = method.targets()
    names = (*targets, *(m for m in NAMES if m not in targets))[: len(NAMES)]
    settings = MethodSettings(StackFormat.of_names(names, size))
    random = torch.Generator().manual_seed(0)
    slices = torch.rand((SLICES, len(names), *size), generator=random)
    short = replace(method, steps=2, batch_size=2, warmup=0)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        data = TrainingData(InMemory(slices), slices[:2])
        run = TrainingRun(output, precision="float32")
        fit(short, data, settings, run, name=name)
        again = replace(short, steps=3) if not method.decay else short
        fit(again, data, settings, replace(run, resume=True), name=name)
        fitted = FittedMethod.load(output, "cpu")
    differences = []
    for given in _asked(fitted):
        differences.append(_answers(fitted, slices, given))
    for ability in ("synthesis", "generation", "reconstruction"):
        if ability not in method.abilities:
            _refuses(fitted, slices, ability)
    return {"batch": max(differences)}


def _asked(fitted: FittedMethod) -> list[tuple[str, ...]]:
    """Every set of given images for which the method has an answer."""
    able = fitted.method.abilities
    targets = fitted.method.targets()
    free = [m for m in fitted.modalities if m not in targets]
    if "synthesis" not in able:
        sets = [c for n in range(len(free) + 1) for c in combinations(free, n)]
        return sets if "reconstruction" in able else [()]
    everything = fitted.modalities
    sets = [c for n in range(1, len(everything)) for c in combinations(everything, n)]
    return [*sets, ()] if "generation" in able else sets


def _answers(fitted: FittedMethod, slices: Tensor, given: tuple[str, ...]) -> float:
    who = f"{fitted.name}, given {', '.join(given) or 'nothing'}"
    whole = _answer(fitted, slices[:2], given)
    shape = tuple(slices[:2].shape)
    if tuple(whole.shape) != shape or not bool(torch.isfinite(whole).all()):
        raise AssertionError(f"{who}: answer {tuple(whole.shape)}, expected finite {shape}")
    if float(whole.min()) < 0 or float(whole.max()) > 1:
        raise AssertionError(f"{who}: the answer leaves [0, 1]")
    places = [fitted.modalities.index(m) for m in given]
    if not torch.equal(whole[:, places], slices[:2, places]):
        raise AssertionError(f"{who}: a given image does not come out as it went in")
    others = 1 - slices[:2]
    others[:, places] = slices[:2, places]
    for target in fitted.method.targets():  # the scan of a target is given
        place = fitted.modalities.index(target)
        others[:, place] = slices[:2, place]
    if not torch.equal(_answer(fitted, others, given), whole):
        raise AssertionError(f"{who}: the answer changes with images that are not given")
    error = float((_answer(fitted, slices[:1], given) - whole[:1]).abs().max())
    if not error <= TOLERANCE:
        raise AssertionError(f"{who}: an entry alone and in a batch differs by {error:.1e}")
    return error


def _answer(fitted: FittedMethod, slices: Tensor, given: tuple[str, ...]) -> Tensor:
    targets = fitted.method.targets()
    if not targets:
        return fitted.complete(slices, given)
    target = targets[0]
    operator = fitted.method.scan_in_training(fitted.settings, target)
    data = operator.forward(slices[:, fitted.modalities.index(target)])
    return fitted.recover(data, operator, target, given=slices, available=given)


def _refuses(fitted: FittedMethod, slices: Tensor, ability: str) -> None:
    try:
        if ability == "reconstruction":
            from any2all_operators import Identity

            first = fitted.modalities[0]
            fitted.recover(
                slices[:, 0],
                Identity(0.1),
                first,
                given=slices,
                available=fitted.modalities[1:],
            )
        else:
            fitted.complete(slices, fitted.modalities[:1] if ability == "synthesis" else ())
    except UserError:
        return
    raise AssertionError(f"{fitted.name}: answers {ability}, which is not among its abilities")
