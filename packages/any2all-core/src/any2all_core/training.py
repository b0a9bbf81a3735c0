"""Training of the prior: denoising score matching on stacks of slices."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from any2all_operators import UserError
from torch import Tensor

from any2all_core.checkpoint import export, prepare_output, restore, save_checkpoint
from any2all_core.noise import generator
from any2all_core.prior import DiffusionPrior, PriorSettings, choose_dtype
from any2all_core.recipe import Recipe
from any2all_core.schedule import Schedule

Augment = Callable[[Tensor, torch.Generator], Tensor]
VALIDATION_TIMES = (150, 300, 500, 700)


@dataclass(frozen=True)
class Progress:
    """What :func:`train` tells its caller after each step."""

    step: int
    loss: float
    images_per_second: float
    validation: dict[str, float] | None = None


def build_prior(recipe: Recipe, settings: PriorSettings) -> DiffusionPrior:
    """An untrained prior with the recipe's network.

    Raises UserError when the images are of a size that it cannot halve at every level.
    """
    from diffusers import UNet2DModel

    levels, attention = len(recipe.channels), recipe.attention_levels
    unit = recipe.patch * 2 ** (levels - 1)
    if any(n % unit for n in settings.image_size):
        fitting = " x ".join(str(max(round(n / unit), 1) * unit) for n in settings.image_size)
        raise UserError(
            f"slices of {' x '.join(map(str, settings.image_size))} don't suit a network of "
            f"{levels} levels and patch {recipe.patch}: sizes must be multiples of {unit}, such as "
            f"{fitting}; pad or resample the images"
        )
    plain = levels - attention
    channels = len(settings.modalities) * recipe.patch**2
    unet = UNet2DModel(
        sample_size=tuple(n // recipe.patch for n in settings.image_size),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.blocks,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attention,
        up_block_types=("AttnUpBlock2D",) * attention + ("UpBlock2D",) * plain,
        attention_head_dim=math.gcd(32, recipe.channels[-1]),
        norm_num_groups=recipe.norm_groups,
    )
    return DiffusionPrior(unet, settings)


def train(
    slices: Tensor,
    validation: Tensor,
    settings: PriorSettings,
    recipe: Recipe,
    output: str | Path,
    *,
    augment: Augment | None = None,
    start_from: DiffusionPrior | None = None,
    resume: bool = False,
    precision: str = "auto",
    checkpoint_every: int = 250,
    report: Callable[[Progress], None] = lambda _: None,
) -> DiffusionPrior:
    """Minimise E‖target − network(x_t, t)‖² over slices, noise and uniform t; return the EMA prior.

    slices, validation: (N, M, H, W) in [0, 1]. ``output`` becomes a prior folder at every
    checkpoint, with ``log.jsonl``; ``resume`` goes on from it with the very losses an
    uninterrupted run would have had, because step k draws all its randomness from (seed, k).
    ``start_from``: a prior of the same modalities and network (float32) to begin with, to train it
    on or to adapt it to other data. Raises UserError when ``output`` holds something else, or a run
    of another recipe, and when ``start_from`` does not fit.
    """
    output = Path(output)
    prepare_output(output, resume)
    settings = replace(
        settings,
        prediction=recipe.prediction,
        patch=recipe.patch,
        diffusion_steps=recipe.diffusion_steps,
    )
    torch.manual_seed(recipe.seed)
    prior = build_prior(recipe, settings)
    if start_from is not None:
        _begin_with(prior, start_from)
    prior.unet.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(prior).requires_grad_(False)
    optimizer = torch.optim.Adam(prior.parameters(), lr=recipe.learning_rate)
    # what a resumed run must share with its beginning
    identity = {
        "recipe": asdict(recipe),
        "modalities": settings.modalities,
        "image_size": settings.image_size,
        "normalisation": settings.normalisation,
        "slices": len(slices),
        "precision": str(choose_dtype(precision)),
        "start_from": None if start_from is None else _name(start_from),
    }
    start = restore(output, identity, prior, ema, optimizer) if resume else 0
    if resume:
        export(output, ema)
    # The working copy computes in `dtype`; `prior` keeps the float32 master weights for Adam.
    dtype = choose_dtype(precision)
    worker = prior if dtype == torch.float32 else copy.deepcopy(prior).to(dtype)
    masters: list[Tensor] = list(prior.parameters())
    workers: list[Tensor] = list(worker.parameters())
    average: list[Tensor] = list(ema.parameters())
    alpha_bar = Schedule(recipe.diffusion_steps).alpha_bar.float()
    clock, seconds = time.perf_counter(), 0.0
    losses: list[float] = []
    for step in range(start, recipe.steps):
        random = generator(recipe.seed, step)
        x_0 = slices[batch_indices(len(slices), recipe, step)]
        if augment is not None:
            x_0 = augment(x_0, random)
        x_0 = 2 * x_0 - 1
        t = torch.randint(0, recipe.diffusion_steps, (len(x_0),), generator=random)
        noise = torch.randn(x_0.shape, generator=random)
        loss = _loss(worker, x_0, t, noise, alpha_bar)
        loss.backward()
        losses.append(loss.item())
        if worker is not prior:
            for master, part in zip(masters, workers, strict=True):
                master.grad = None if part.grad is None else part.grad.float()
                part.grad = None
        norm = torch.nn.utils.clip_grad_norm_(masters, recipe.clip_norm)
        if not math.isfinite(losses[-1] + norm.item()):
            raise UserError(
                f"step {step}: the loss is {losses[-1]}, its gradient {norm.item()}; {output} "
                "keeps the last checkpoint, if any; train again with a lower learning_rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            decay = min(recipe.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, masters, 1 - decay)
            if worker is not prior:
                torch._foreach_copy_(workers, masters)
        seconds += time.perf_counter() - clock
        rate = (step + 1 - start) * recipe.batch_size / seconds
        done = step + 1
        figures = None
        if done % checkpoint_every == 0 or done == recipe.steps:
            figures = validate(ema, validation, dtype)
            entry = {"step": done, "loss": round(sum(losses) / len(losses), 5)}
            entry |= {"images_per_second": round(rate, 2), **figures}
            made = {"steps": done, **figures, "recipe": asdict(recipe)}
            if start_from is not None:
                made["start_from"] = dict(start_from.settings.training)
            ema.settings = replace(settings, training={**settings.training, **made})
            save_checkpoint(output, identity | {"step": done}, prior, ema, optimizer, entry)
            losses.clear()
        clock = time.perf_counter()
        report(Progress(done, loss.item(), rate, figures))
    return ema


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, plateau, linear decay to zero."""
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    tail = recipe.decay * recipe.steps
    fall = min(1.0, (recipe.steps - step) / tail) if tail else 1.0
    return recipe.learning_rate * min(rise, fall)


def batch_indices(count: int, recipe: Recipe, step: int) -> Tensor:
    """Which slices step ``step`` sees: consecutive pieces of one permutation an epoch."""
    first = step * recipe.batch_size
    places = range(first, first + recipe.batch_size)
    orders = {
        epoch: np.random.default_rng((recipe.seed, epoch)).permutation(count)
        for epoch in {place // count for place in places}
    }
    return torch.tensor([int(orders[place // count][place % count]) for place in places])


def _name(prior: DiffusionPrior) -> str:
    weights = torch.cat([p.detach().flatten() for p in prior.parameters()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    return f"the prior {digest[:8]}"


def _begin_with(prior: DiffusionPrior, start: DiffusionPrior) -> None:
    for name in ("modalities", "prediction", "patch", "diffusion_steps"):
        has, wanted = getattr(start.settings, name), getattr(prior.settings, name)
        if has != wanted:
            raise UserError(f"the prior to start from has {name} {has}, this training {wanted}")
    try:
        prior.load_state_dict(start.state_dict())
    except RuntimeError:
        raise UserError(
            "the prior to start from has a network of another size; give its recipe's channels, "
            "blocks, attention_levels and norm_groups"
        ) from None


@torch.no_grad()
def validate(prior: DiffusionPrior, slices: Tensor, dtype: torch.dtype) -> dict[str, float]:
    """Held-out v/ε loss over fixed noise, and the PSNR of x̂_0 at fixed times (data range 1)."""
    model = copy.deepcopy(prior).to(dtype).eval()
    random = torch.Generator().manual_seed(0)
    alpha_bar = prior.schedule.alpha_bar.float()
    steps = prior.schedule.steps
    x_0 = 2 * slices - 1
    t = torch.linspace(0, steps - 1, len(x_0)).round().long()
    noise = torch.randn(x_0.shape, generator=random)
    losses = [
        _loss(model, *part, alpha_bar).item() * len(part[0])
        for part in zip(x_0.split(16), t.split(16), noise.split(16), strict=True)
    ]
    figures = {"validation_loss": sum(losses) / len(x_0)}
    for time_ in VALIDATION_TIMES:
        level = time_ * steps // 1000
        signal, spread = alpha_bar[level].sqrt(), (1 - alpha_bar[level]).sqrt()
        errors = []
        for part, z in zip(x_0.split(16), noise.split(16), strict=True):
            x_0_hat = model.denoise(signal * part + spread * z, level).clamp(-1, 1)
            errors.append((((x_0_hat - part) / 2) ** 2).mean((1, 2, 3)))
        figures[f"psnr_t{level}"] = float(-10 * torch.cat(errors).log10().mean())
    return {name: round(value, 5) for name, value in figures.items()}


def _loss(
    model: DiffusionPrior, x_0: Tensor, t: Tensor, noise: Tensor, alpha_bar: Tensor
) -> Tensor:
    signal = alpha_bar[t].sqrt()[:, None, None, None]
    spread = (1 - alpha_bar[t]).sqrt()[:, None, None, None]
    out = model.predict(signal * x_0 + spread * noise, t)
    target = signal * noise - spread * x_0 if model.settings.prediction == "v" else noise
    return (out - target).square().mean()
