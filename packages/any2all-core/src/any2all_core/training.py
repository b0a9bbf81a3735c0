"""Training of the prior: denoising score matching on stacks of slices, on one process or many."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from any2all_operators import UserError
from torch import Tensor

from any2all_core.checkpoint import (
    begun,
    export,
    keep_best,
    prepare_output,
    restore,
    save_checkpoint,
)
from any2all_core.examples import Examples, ahead, places
from any2all_core.muon import Muon, groups
from any2all_core.network import build_prior, divided
from any2all_core.noise import generator
from any2all_core.objective import loss, noised, validate
from any2all_core.prior import DiffusionPrior, PriorSettings, choose_dtype
from any2all_core.questions import JOINT, draw_times
from any2all_core.recipe import Recipe
from any2all_core.weights import Weights, engine

Augment = Callable[[Tensor, Sequence[torch.Generator]], Tensor]
Ask = Callable[[Sequence[torch.Generator], Tensor], tuple[Tensor, Tensor]]
GPU_AHEAD = 4
"""Batches that are made while a GPU is at work, each by a thread of its own."""


@dataclass(frozen=True)
class Progress:
    """What :func:`train` tells its caller after each step.

    With ``validation`` also ``prior``: the average, where and in the precision that it computes.
    """

    step: int
    loss: float
    images_per_second: float
    validation: dict[str, float] | None = None
    prior: DiffusionPrior | None = None


class Stopped(Exception):
    """The process was asked to end, by ``signal``; the run is saved at ``step``."""

    def __init__(self, step: int, signal_: signal.Signals) -> None:
        super().__init__(f"{signal_.name}: stopped at step {step}")
        self.step, self.signal = step, signal_


def train(
    examples: Examples,
    validation: Tensor,
    settings: PriorSettings,
    recipe: Recipe,
    output: str | Path,
    *,
    augment: Augment | None = None,
    ask: Ask | None = None,
    start_from: DiffusionPrior | None = None,
    resume: bool = False,
    shard: bool = False,
    precision: str = "auto",
    checkpoint_every: int = 250,
    validate_every: int = 250,
    report: Callable[[Progress], None] = lambda _: None,
) -> DiffusionPrior:
    """Minimise E w_t‖target − network(x_t, t)‖² over slices, noise and uniform t; the EMA prior.

    examples: see :class:`Examples`; validation: (N, M, H, W) in [0, 1]. ``output`` becomes a prior
    folder at every checkpoint, with ``log.jsonl``, and with the prior of the least validation loss
    in ``best/``; ``resume`` goes on from it with the very losses an uninterrupted run would have
    had, because example b of step k draws all its randomness from (seed, k, b); what
    ``start_from`` and ``precision`` leave open is then the run's. ``ask``: the questions of
    examples (see :func:`draw_times`), the recipe's if not given. ``start_from``: a prior of the
    same network (float32) that shares a modality.

    Started by ``torchrun`` or ``accelerate launch`` on several processes, each computes its part of
    the batch (``recipe.batch_size`` a process) and gradients are averaged (DDP): n processes take
    the steps that one with n times the batch would. ``shard``: the weights, their average and
    Adam's moments are shared out among them, too (FSDP), for networks that one would not hold.

    Raises UserError when ``output`` holds something else, or a run of another recipe, when
    ``start_from`` does not fit, when the loss is not finite, or the disk is full; Stopped on
    SIGTERM and on SIGINT (Ctrl-C), of which a second one ends it without saving.
    """
    output, accelerator = Path(output), engine()
    device, rank, processes = (
        accelerator.device,
        accelerator.process_index,
        accelerator.num_processes,
    )
    if accelerator.is_main_process:
        prepare_output(output, resume)
    settings = replace(
        settings,
        prediction=recipe.prediction,
        levels=recipe.levels,
        patch=recipe.patch,
        diffusion_steps=recipe.diffusion_steps,
    )
    torch.manual_seed(recipe.seed)
    prior = build_prior(recipe, settings)
    if start_from is not None:
        _begin_with(prior, start_from)
    prior.unet.to(memory_format=torch.channels_last)
    # nothing in it acts otherwise in training, but then diffusers undoes channels_last: 10 % slower
    prior.eval()
    ema = copy.deepcopy(prior).requires_grad_(False)
    share = recipe.batch_size * recipe.accumulate
    batch = share * processes
    was = begun(output) if resume else {}
    if resume and precision == "auto":
        precision = was["precision"].removeprefix("torch.")
    dtype = choose_dtype(precision, device.type)
    # what a resumed run must share with its beginning
    identity = {
        "recipe": asdict(recipe),
        "batch_size": batch,
        "modalities": settings.modalities,
        "image_size": settings.image_size,
        "normalisation": settings.normalisation,
        "slices": len(examples),
        "drawn": settings.training.get("drawn"),
        "incomplete": settings.training.get("incomplete"),
        "precision": str(dtype),
        "start_from": was.get("start_from") if start_from is None else _name(start_from),
    }
    start, kept = restore(output, identity, prior, ema) if resume else (0, None)
    origin = ema.settings.training.get("start_from") if resume else None
    if start_from is not None:
        origin = dict(start_from.settings.training)
    if resume and accelerator.is_main_process:
        export(output, ema)  # a kill may have come before it
        keep_best(output, ema)
    weights = Weights(prior, ema, dtype, accelerator, shard)
    if recipe.optimizer == "muon":
        if weights.sharded:
            raise UserError(
                "optimizer=muon needs whole matrices, and --shard takes them apart; take "
                "--set optimizer=adam"
            )
        rates = groups(prior.unet, recipe.learning_rate, recipe.matrix_rate)
        optimizer: torch.optim.Optimizer = Muon(rates)
    else:
        optimizer = torch.optim.Adam(weights.masters, lr=recipe.learning_rate, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    if kept is not None:
        weights.load(optimizer, kept)
    alpha_bar = prior.schedule.alpha_bar.float().to(device)
    if ask is None:
        shares = recipe.questions if recipe.levels == "separate" else JOINT
        ask = functools.partial(draw_times, diffusion_steps=recipe.diffusion_steps, shares=shares)

    def question(step: int) -> tuple[Tensor, ...]:
        """This process' examples of a step: x_0 and noise, (b, M, H, W), t and asked, (b, M)."""
        everyone = places(len(examples), batch, step, recipe.seed)
        x_0 = examples.read(everyone[rank * share : (rank + 1) * share])
        random = [generator(recipe.seed, step, rank * share + b) for b in range(share)]
        absent = x_0.isnan().all((2, 3))
        x_0 = _onto(device, x_0).masked_fill(_onto(device, absent)[:, :, None, None], 0.0)
        if augment is not None:
            x_0 = augment(x_0, random)
        if step < recipe.coarse * recipe.steps:
            x_0 = at_half_size(x_0, divided(recipe))
        t, lossy = ask(random, absent)
        noise = torch.stack([torch.randn(x_0.shape[1:], generator=g) for g in random])
        return 2 * x_0 - 1, *(_onto(device, each) for each in (noise, t, lossy))

    def save(step: int, figures: dict[str, float]) -> None:
        entry = {"step": step, "loss": round(sum(losses) / len(losses), 5) if losses else None}
        entry |= {"images_per_second": round(rate, 2), **figures}
        made = {"steps": step, **figures, "recipe": asdict(recipe), "processes": processes}
        if origin is not None:
            made["start_from"] = origin
        ema.settings = replace(settings, training={**settings.training, **made})
        state = weights.state(optimizer)
        if accelerator.is_main_process:
            save_checkpoint(output, identity | {"step": step}, state, ema, entry)
        losses.clear()

    clock, seconds, rate = time.perf_counter(), 0.0, 0.0
    losses: list[float] = []
    steps = range(start, recipe.steps)
    workers = GPU_AHEAD if device.type == "cuda" else 1
    with _terminated() as ending, closing(ahead(question, steps, workers)) as questions:
        for step, asked in zip(steps, questions, strict=True):
            total = torch.zeros((), device=device)
            parts = (each.split(recipe.batch_size) for each in asked)
            for x, z, time_, lossy in zip(*parts, strict=True):
                level = alpha_bar[time_]
                out = weights.predict(noised(x, z, level), time_)
                value = loss(out, x, z, level, lossy, recipe.prediction, recipe.min_snr)
                (value / recipe.accumulate).backward()
                total += value.detach() / recipe.accumulate
                weights.hand_over()
            norm = weights.clip(recipe.clip_norm)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * learning_rate(recipe, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            weights.stepped(min(recipe.ema, (1 + step) / (10 + step)))
            # a GPU is waited for once a step, here; and there is one word between the processes,
            # which stop, or fail, together
            word = torch.stack([total, norm, torch.full_like(total, float(ending.is_set()))])
            if processes > 1:
                word = accelerator.reduce(word, "mean")
            mean, length, stop = word.cpu().tolist()
            losses.append(mean)
            if not math.isfinite(mean + length):
                raise UserError(
                    f"step {step}: the loss is {mean}, its gradient {length}; {output} "
                    "keeps the last checkpoint, if any; train again with a lower learning_rate"
                )
            seconds += time.perf_counter() - clock
            rate = (step + 1 - start) * batch / seconds
            done, figures = step + 1, None
            last = done == recipe.steps
            if last or done % validate_every == 0:
                judged = copy.deepcopy(weights.ema()).to(device, dtype)
                figures = validate(judged, validation)
            if last or stop or figures or done % checkpoint_every == 0:
                save(done, figures or {})
            if stop:
                raise Stopped(done, ending.signal)
            if accelerator.is_main_process:
                report(Progress(done, mean, rate, figures, judged if figures else None))
            clock = time.perf_counter()
    accelerator.wait_for_everyone()
    return weights.ema()


def at_half_size(x_0: Tensor, unit: int) -> Tensor:
    """Means of 2 x 2 pixels, in a frame of 0 that makes the sizes multiples of ``unit``.

    (B, M, H, W) in [0, 1] to (B, M, h, w). What images have to do with each other is learnt there
    at a quarter of the cost; the network, being convolutional, goes on from it at full size.
    """
    half = F.avg_pool2d(x_0, 2, ceil_mode=True, count_include_pad=False)
    missing = [-n % unit for n in half.shape[2:]]
    rows, columns = ((n // 2, n - n // 2) for n in missing)
    return F.pad(half, (*columns, *rows))


def learning_rate(recipe: Recipe, step: int) -> float:
    """The share of the full rate at a step: linear warm-up, plateau, linear decay to zero."""
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    tail = recipe.decay * recipe.steps
    fall = min(1.0, (recipe.steps - step) / tail) if tail else 1.0
    return min(rise, fall)


class _Ending:
    """Whether a signal has asked the process to end, and which one."""

    def __init__(self) -> None:
        self.signal = signal.SIGTERM
        self.asked = threading.Event()

    def take(self, number: int, frame: object) -> None:
        """The handler of the signals; after it Ctrl-C ends the process at once."""
        self.signal = signal.Signals(number)
        self.asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def is_set(self) -> bool:
        return self.asked.is_set()


@contextmanager
def _terminated() -> Iterator[_Ending]:
    """What SIGTERM and SIGINT tell, in place of ending the process at once.

    SIGINT stays ignored where it is, as in what a shell runs in its background.
    """
    ending = _Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    taken = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        taken.append(signal.SIGINT)
    before = {number: signal.signal(number, ending.take) for number in taken}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _onto(device: torch.device, tensor: Tensor) -> Tensor:
    """On the device, without waiting for what a GPU is at."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _name(prior: DiffusionPrior) -> str:
    weights = torch.cat([p.detach().flatten() for p in prior.parameters()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    return f"the prior {digest[:8]}"


def _begin_with(prior: DiffusionPrior, start: DiffusionPrior) -> None:
    """Take over the weights of ``start``, which may be of other modalities, in another order.

    What leads from and to a modality that is new starts at zero: the images of the others are
    denoised as before.
    """
    shared = [m for m in prior.modalities if m in start.modalities]
    if not shared:
        raise UserError(
            f"the prior to start from knows {', '.join(start.modalities)}, this training has "
            f"{', '.join(prior.modalities)}: nothing in common"
        )
    for name in ("prediction", "patch", "diffusion_steps", "schedule"):
        has, wanted = getattr(start.settings, name), getattr(prior.settings, name)
        if has != wanted:
            raise UserError(f"the prior to start from has {name} {has}, this training {wanted}")
    if start.levels == "separate" and prior.levels == "shared":
        raise UserError(
            "the prior to start from has a noise level for each modality, this training one for "
            "all; take levels=separate"
        )
    misfit = UserError(
        "the prior to start from has a network of another size; give its recipe's channels, "
        "blocks, attention_levels and norm_groups"
    )
    config = getattr(start.unet, "config", None)
    for name in ("norm_num_groups", "attention_head_dim"):  # which change no weight's shape
        if not isinstance(config, Mapping) or config.get(name) != prior.unet.config.get(name):
            raise misfit
    state = start.state_dict()
    images = [_channels(p, shared) for p in (prior, start)]
    told = [_told(p, shared) for p in (prior, start)] if start.levels == "separate" else []
    enters = [torch.cat(both) for both in zip(images, told, strict=True)] if told else images
    try:
        if start.modalities != prior.modalities or start.levels != prior.levels:
            for name, axis, (own, theirs) in (
                ("conv_in.weight", 1, enters),
                ("conv_out.weight", 0, images),
                ("conv_out.bias", 0, images),
            ):
                old, new = state[f"unet.{name}"], torch.zeros_like(prior.unet.get_parameter(name))
                state[f"unet.{name}"] = new.index_copy(axis, own, old.index_select(axis, theirs))
        prior.load_state_dict(state)
    except (RuntimeError, KeyError):
        raise misfit from None


def _channels(prior: DiffusionPrior, modalities: Sequence[str]) -> Tensor:
    """Where patches of these modalities lie among the network's channels."""
    parts = prior.settings.patch**2
    first = [prior.modalities.index(m) * parts for m in modalities]
    return torch.tensor([k + i for k in first for i in range(parts)])


def _told(prior: DiffusionPrior, modalities: Sequence[str]) -> Tensor:
    """Where the noise levels of these modalities lie among the channels that enter."""
    first = len(prior.modalities) * prior.settings.patch**2
    return torch.tensor([first + prior.modalities.index(m) for m in modalities])
