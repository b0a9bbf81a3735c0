"""Training of the prior: denoising score matching on stacks of slices, on one process or many."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

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
from any2all_core.examples import places
from any2all_core.hardware import choose_dtype
from any2all_core.loop import (
    Loop,
    Meter,
    Taken,
    TrainingData,
    TrainingRun,
    averaging,
    learning_rate,
    onto,
)
from any2all_core.muon import Muon, groups
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.objective import loss, noised, validate
from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import PriorSettings
from any2all_core.questions import JOINT, draw_times
from any2all_core.recipe import Recipe
from any2all_core.weights import Weights, engine

Ask = Callable[[Sequence[torch.Generator], Tensor], tuple[Tensor, Tensor]]


def train(
    data: TrainingData,
    settings: PriorSettings,
    recipe: Recipe,
    run: TrainingRun,
    *,
    ask: Ask | None = None,
    start_from: DiffusionPrior | None = None,
    shard: bool = False,
) -> DiffusionPrior:
    """Minimise E w_t‖target − network(x_t, t)‖² over slices, noise and uniform t; the EMA prior.

    ``run.output`` becomes a prior folder at every checkpoint, with ``log.jsonl``, and with the
    prior of the least validation loss in ``best/``; ``run.resume`` goes on from it with the very
    losses an uninterrupted run would have had, because example b of step k draws all its randomness
    from (seed, k, b); what ``start_from`` and ``run.precision`` leave open is then as it was begun
    with.
    ``ask``: the questions of
    examples (see :func:`draw_times`), the recipe's if not given. ``start_from``: a prior of the
    same network (float32) that shares a modality.

    Started by ``torchrun`` or ``accelerate launch`` on several processes, each computes its part of
    the batch (``recipe.batch_size`` a process) and gradients are averaged (DDP): n processes take
    the steps that one with n times the batch would. ``shard``: the weights, their average and
    Adam's moments are shared out among them, too (FSDP), for networks that one would not hold.

    Raises UserError when ``run.output`` holds something else, or a run of another recipe, when
    ``start_from`` does not fit, when the loss is not finite, or the disk is full; Stopped on
    SIGTERM and on SIGINT (Ctrl-C), of which a second one ends it without saving.
    """
    output, resume, accelerator = run.output, run.resume, engine()
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
    precision = run.precision
    if resume and precision == "auto":
        precision = was["precision"].removeprefix("torch.")
    dtype = choose_dtype(precision, device.type)
    # what a resumed run must share with its beginning
    identity = {
        "recipe": asdict(recipe),
        "batch_size": batch,
        "modalities": settings.modalities,
        "image_size": settings.image_size,
        "ranges": {name: [r.low, r.high] for name, r in settings.format.ranges.items()},
        "slices": len(data.examples),
        "drawn": settings.training.get("drawn"),
        "incomplete": settings.training.get("incomplete"),
        "precision": str(dtype),
        "start_from": was.get("start_from") if start_from is None else _name(start_from),
    }
    start, kept = restore(output, identity, prior, ema) if resume else (0, None)
    earlier = float(ema.settings.training.get("seconds", 0.0)) if resume else 0.0
    origin = ema.settings.training.get("start_from") if resume else None
    if start_from is not None:
        origin = dict(start_from.settings.training)
    if resume and accelerator.is_main_process:
        export(output, ema)  # a kill may have come before it
        keep_best(output, ema)
    weights = Weights(prior, ema, dtype, accelerator, shard=shard)
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
        everyone = places(len(data.examples), batch, step, recipe.seed)
        random = [generator(recipe.seed, step, rank * share + b) for b in range(share)]
        chosen = everyone[rank * share : (rank + 1) * share]
        x_0, absent = data.read(chosen, random, device)
        if step < recipe.coarse * recipe.steps:
            x_0 = at_half_size(x_0)
        t, lossy = ask(random, absent)
        noise = torch.stack([torch.randn(x_0.shape[1:], generator=g) for g in random])
        return 2 * x_0 - 1, *(onto(device, each) for each in (noise, t, lossy))

    def take(step: int, asked: tuple[Tensor, ...], ending: Callable[[], bool]) -> Taken:
        total = torch.zeros((), device=device)
        parts = (each.split(recipe.batch_size) for each in asked)
        for x, z, time_, lossy in zip(*parts, strict=True):
            level = alpha_bar[time_]
            out = weights.predict(noised(x, z, level), time_)
            value = loss(
                out,
                x,
                z,
                level,
                asked=lossy,
                prediction=recipe.prediction,
                min_snr=recipe.min_snr,
            )
            (value / recipe.accumulate).backward()
            total += value.detach() / recipe.accumulate
            weights.hand_over()
        norm = weights.clip(recipe.clip_norm)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * learning_rate(recipe, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        weights.stepped(averaging(recipe.ema, step))
        # a GPU is waited for once a step, here; and there is one word between the processes,
        # which stop, or fail, together
        word = torch.stack([total, norm, torch.full_like(total, float(ending()))])
        if processes > 1:
            word = accelerator.reduce(word, "mean")
        mean, length, stop = word.cpu().tolist()
        return Taken(mean, length, bool(stop))

    def judge() -> tuple[dict[str, float], DiffusionPrior]:
        judged = copy.deepcopy(weights.ema()).to(device, dtype)
        return validate(judged, data.validation), judged

    def save(step: int, figures: dict[str, float], meter: Meter) -> None:
        made = {"steps": step, **figures, "recipe": asdict(recipe), "processes": processes}
        made |= {"images": step * batch, "seconds": round(earlier + meter.seconds, 1)}
        if origin is not None:
            made["start_from"] = origin
        ema.settings = replace(settings, training={**settings.training, **made})
        state = weights.state(optimizer)
        if accelerator.is_main_process:
            entry = {"step": step, **meter.entry, **figures}
            save_checkpoint(output, identity | {"step": step}, state, ema, entry=entry)

    if not accelerator.is_main_process:
        run = replace(run, report=lambda _: None)
    loop = Loop(run, question, take, judge, save, batch)
    loop.run(range(start, recipe.steps), device)
    accelerator.wait_for_everyone()
    return weights.ema()


def at_half_size(x_0: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, of those there are at the end of an odd size: (B, M, ⌈H/2⌉, ⌈W/2⌉).

    What images have to do with each other is learnt there at a quarter of the cost; the network,
    being convolutional, goes on from it at full size.
    """
    return F.avg_pool2d(x_0, 2, ceil_mode=True, count_include_pad=False)


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
            for name, axis, (into, taken) in (
                ("conv_in.weight", 1, enters),
                ("conv_out.weight", 0, images),
                ("conv_out.bias", 0, images),
            ):
                old, new = state[f"unet.{name}"], torch.zeros_like(prior.unet.get_parameter(name))
                state[f"unet.{name}"] = new.index_copy(axis, into, old.index_select(axis, taken))
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
