"""Training of a method, with the same examples, augmentation and checkpoints as for a prior."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from any2all_operators import UserError
from torch import nn

from any2all_core.checkpoint import (
    export,
    keep_best,
    prepare_output,
    read_checkpoint,
    save_checkpoint,
    without_grid,
)
from any2all_core.examples import places
from any2all_core.fitted import FittedMethod
from any2all_core.hardware import choose_device, choose_dtype, use_exact_kernels
from any2all_core.held_out import validate_method
from any2all_core.loop import (
    Loop,
    Meter,
    Taken,
    TrainingData,
    TrainingRun,
    Wish,
    averaging,
    learning_rate,
)
from any2all_core.method import Method, MethodSettings, Question
from any2all_core.noise import generator


def fit(
    method: Method,
    data: TrainingData,
    settings: MethodSettings,
    run: TrainingRun,
    *,
    name: str,
    device: str = "auto",
) -> FittedMethod:
    """Train a method on slices.

    ``name`` is the qualified name of its entry point; the other arguments are those of
    :func:`any2all_core.training.train`. Example b of step k is the slice that a prior with this
    batch size and seed would receive, with the same augmentation. It draws all its randomness from
    (seed, k, b), so a resumed run has the same losses as an uninterrupted one. At every checkpoint,
    ``run.output`` becomes a method's folder, and ``best/`` holds the weights with the lowest
    validation loss.

    Raises UserError and Stopped as ``train`` does.
    """
    output, where = run.output, choose_device(device)
    prepare_output(output, run.resume)
    dtype = choose_dtype(run.precision, where.type)
    torch.manual_seed(method.seed)
    network = method.build(settings)
    average = copy.deepcopy(network).requires_grad_(False).eval()
    fitted = FittedMethod(name, method, average, settings)
    identity = {
        "method": name,
        "recipe": asdict(method),
        "modalities": settings.modalities,
        "image_size": settings.image_size,
        "ranges": {name: [r.low, r.high] for name, r in settings.format.ranges.items()},
        "slices": len(data.examples),
        "incomplete": settings.training.get("incomplete"),
        "precision": str(dtype),
    }
    start, kept = read_checkpoint(output, identity) if run.resume else (0, None)
    if kept is not None:
        network.load_state_dict(kept["network"])
        average.load_state_dict(kept["average"])
        fitted.settings = replace(settings, training=without_grid(kept["training"]))
        export(output, fitted)  # the run may have been killed before this
        keep_best(output, fitted)
    use_exact_kernels(where)
    network.to(where).train()
    average.to(where)
    optimizers = method.optimizers(network)
    peaks = {part: [g["lr"] for g in o.param_groups] for part, o in optimizers.items()}
    if kept is not None:
        for part, optimizer in optimizers.items():
            optimizer.load_state_dict(kept["optimizers"][part])
    earlier = float(fitted.settings.training.get("seconds", 0.0)) if run.resume else 0.0

    def question(step: int) -> Question:
        chosen = places(len(data.examples), method.batch_size, step, method.seed)
        random = [generator(method.seed, step, b) for b in range(method.batch_size)]
        truth, absent = data.read(chosen, random, where)
        done = step / method.steps
        given = method.given_in_training(~absent, random, done).to(where)
        return Question(truth, ~absent.to(where), given, random, done)

    def take(step: int, asked: Question, wish: Callable[[], Wish]) -> Taken:
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=asked.generators[0])))  # dropout
        total = norm = 0.0
        share = learning_rate(method, step)
        losses = method.losses(network, asked)
        with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
            for part, loss in losses:
                optimizer = optimizers[part]
                network.zero_grad(set_to_none=True)
                loss.float().backward()
                norm += _clipped(optimizer, method.clip_norm)
                for group, peak in zip(optimizer.param_groups, peaks[part], strict=True):
                    group["lr"] = peak * share
                optimizer.step()
                total += float(loss.detach())
        _average(average, network, averaging(method.ema, step) if method.ema else 0.0)
        return Taken(total, norm, wish())

    def judge() -> tuple[dict[str, float], Any]:
        with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
            return validate_method(fitted, data.validation), None

    def save(step: int, figures: dict[str, float], meter: Meter) -> None:
        made = {"steps": step, **figures, "images": step * method.batch_size}
        made["seconds"] = round(earlier + meter.seconds, 1)
        fitted.settings = replace(settings, training={**settings.training, **made})
        state = {
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimizers": {part: o.state_dict() for part, o in optimizers.items()},
        }
        entry = {"step": step, **meter.entry, **figures}
        save_checkpoint(output, identity | {"step": step}, state, fitted, entry=entry)

    loop = Loop(run, question, take, judge, save, method.batch_size)
    loop.run(range(start, method.steps), where)
    return fitted


def _clipped(optimizer: torch.optim.Optimizer, largest: float) -> float:
    """Scale an optimizer's gradients to a norm of at most ``largest``; returns the norm before."""
    weights = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not weights:
        raise UserError("a loss of this method reaches none of the weights it trains")
    return float(torch.nn.utils.clip_grad_norm_(weights, largest or float("inf")))


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for held, seen in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(seen)
