"""Training of a prior: denoising score matching on stacks of slices, in one process or many."""

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
    Wish,
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
from any2all_core.weights import Weights, engine, is_sharded

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
    """Train a prior: minimise E w_t‖target − network(x_t, t)‖² over slices, noise and uniform t.

    The result is the prior with the exponential moving average of the weights. At every checkpoint,
    ``run.output`` becomes a prior folder with ``log.jsonl``, and ``best/`` holds the prior with the
    lowest validation loss. Example b of step k draws all its randomness from (seed, k, b), so a run
    continued by ``run.resume`` has the same losses as an uninterrupted one. If ``start_from`` and
    ``run.precision`` are then left out, they are those with which the run began.

    ``ask`` draws the questions of examples (see :func:`draw_times`); by default the recipe's are
    used. ``start_from`` is a prior with the same network, in float32, that shares a modality.

    ``torchrun`` or ``accelerate launch`` can start several processes. Each then computes
    ``recipe.batch_size`` examples and gradients are averaged (DDP), so n processes take the same
    steps as one process with n times the batch. With ``shard``, the weights, their average and
    Adam's moments are also distributed (FSDP), for networks that do not fit on one device.

    Raises UserError if ``run.output`` holds something else or a run of another recipe, if
    ``start_from`` does not fit, if the loss is not finite, or if the disk is full. Raises Stopped
    on SIGTERM and SIGINT (Ctrl-C); a second Ctrl-C ends the run without saving.
    """
    output, resume, accelerator = run.output, run.resume, engine()
    device, rank, processes = (
        accelerator.device,
        accelerator.process_index,
        accelerator.num_processes,
    )
    if recipe.optimizer == "muon" and is_sharded(accelerator, shard):
        raise UserError(
            "optimizer=muon needs whole matrices, and --shard takes them apart; take "
            "--set optimizer=adam"
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
    # no layer depends on the mode, but in training mode diffusers undoes channels_last: 10 % slower
    prior.eval()
    ema = copy.deepcopy(prior).requires_grad_(False)
    share = recipe.batch_size * recipe.accumulate
    batch = share * processes
    was = begun(output) if resume else {}
    precision = run.precision
    if resume and precision == "auto":
        precision = was["precision"].removeprefix("torch.")
    dtype = choose_dtype(precision, device.type)
    # a resumed run must have the same values
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
        export(output, ema)  # the run may have been killed before this
        keep_best(output, ema)
    weights = Weights(prior, ema, dtype, accelerator, shard=shard)
    if recipe.optimizer == "muon":
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
        """This process' examples of a step: x_0, noise, (b, M, H, W); t, loss mask, (b, M)."""
        everyone = places(len(data.examples), batch, step, recipe.seed)
        random = [generator(recipe.seed, step, rank * share + b) for b in range(share)]
        chosen = everyone[rank * share : (rank + 1) * share]
        x_0, absent = data.read(chosen, random, device)
        if step < recipe.coarse * recipe.steps:
            x_0 = at_half_size(x_0)
        t, lossy = ask(random, absent)
        noise = torch.stack([torch.randn(x_0.shape[1:], generator=g) for g in random])
        return 2 * x_0 - 1, *(onto(device, each) for each in (noise, t, lossy))

    def take(step: int, asked: tuple[Tensor, ...], wish: Callable[[], Wish]) -> Taken:
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
        # the only synchronisation of a step: with the GPU, and between the processes, so that all
        # of them stop, save or fail together
        mine = wish()
        flags = (torch.full_like(total, float(flag)) for flag in (mine.stop, mine.save))
        word = torch.stack([total, norm, *flags])
        if processes > 1:
            word = accelerator.reduce(word, "mean")
        mean, length, stop, save = word.cpu().tolist()
        return Taken(mean, length, Wish(bool(stop), bool(save)))

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
    """Average 2 x 2 pixels, or fewer at the end of an odd size: (B, M, ⌈H/2⌉, ⌈W/2⌉).

    The network learns the relation between modalities there at a quarter of the cost. Because it is
    convolutional, training can continue at full size.
    """
    return F.avg_pool2d(x_0, 2, ceil_mode=True, count_include_pad=False)


def _name(prior: DiffusionPrior) -> str:
    weights = torch.cat([p.detach().flatten() for p in prior.parameters()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    return f"the prior {digest[:8]}"


def _begin_with(prior: DiffusionPrior, start: DiffusionPrior) -> None:
    """Copy the weights of ``start``, whose modalities may differ or have another order.

    Weights from and to a new modality start at zero, so the other modalities are denoised as
    before.
    """
    shared = [m for m in prior.modalities if m in start.modalities]
    if not shared:
        raise UserError(
            f"the prior to start from knows {', '.join(start.modalities)} and this training has "
            f"{', '.join(prior.modalities)}: they have nothing in common"
        )
    for name in ("prediction", "patch", "diffusion_steps", "schedule"):
        has, wanted = getattr(start.settings, name), getattr(prior.settings, name)
        if has != wanted:
            raise UserError(f"the prior to start from has {name} {has}, but this training {wanted}")
    if start.levels == "separate" and prior.levels == "shared":
        raise UserError(
            "the prior to start from has a noise level for each modality, but this training has "
            "one for all; take levels=separate"
        )
    misfit = UserError(
        "the prior to start from has a network of another size; give its recipe's channels, "
        "blocks, attention_levels and norm_groups"
    )
    config = getattr(start.unet, "config", None)
    for name in ("norm_num_groups", "attention_head_dim"):  # these do not change a weight's shape
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
    """Indices of these modalities' patches among the network's channels."""
    parts = prior.settings.patch**2
    first = [prior.modalities.index(m) * parts for m in modalities]
    return torch.tensor([k + i for k in first for i in range(parts)])


def _told(prior: DiffusionPrior, modalities: Sequence[str]) -> Tensor:
    """Indices of these modalities' noise levels among the network's input channels."""
    first = len(prior.modalities) * prior.settings.patch**2
    return torch.tensor([first + prior.modalities.index(m) for m in modalities])
