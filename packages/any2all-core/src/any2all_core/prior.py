"""The prior: what a sampler knows about images before any measurement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from any2all_operators import UserError
from torch import Tensor, nn

from any2all_core.hardware import choose_device, choose_dtype, use_exact_kernels
from any2all_core.prior_settings import (
    Levels,
    PriorSettings,
    damaged,
    read_json,
    read_settings,
    write_settings,
)
from any2all_core.registry import find_plugin
from any2all_core.schedule import Schedule
from any2all_core.stack_format import StackFormat

Times = int | Sequence[int]
"""One time of the schedule for all modalities, or one for each of them."""
WEIGHTS = "diffusion_pytorch_model.safetensors"


@runtime_checkable
class Prior(Protocol):
    """What every sampler asks of a prior, and all that it asks."""

    modalities: tuple[str, ...]
    schedule: Schedule

    def denoise(self, x_t: Tensor, t: Times) -> Tensor:
        """E[x_0 | x_t] for a stack (B, M, H, W) whose images lie in [−1, 1]; differentiable.

        t: the time of all modalities. A prior that has an attribute ``levels`` = "separate" also
        takes one for each, (M,): 0 says that an image is known exactly, T−1 that nothing is known
        of it, whatever x_t holds there. One that has an attribute ``error_floor`` says how large
        the error of x̂_0 is at least, as a standard deviation in [0, 1] units.
        """
        ...


def has_separate_levels(prior: Prior) -> bool:
    """Whether a prior takes a time for each modality."""
    return getattr(prior, "levels", "shared") == "separate"


class DiffusionPrior(nn.Module):
    """A U-Net trained to predict ε, v or x_0, read as the denoiser E[x_0 | x_t].

    epsilon: x̂_0 = (x_t − √(1−ᾱ) ε̂)/√ᾱ (Ho 2020, eq. 15);
    v: x̂_0 = √ᾱ x_t − √(1−ᾱ) v̂ (Salimans & Ho 2022, app. D); sample: x̂_0 itself.

    With ``levels`` "separate" modality m has its own time t_m and ᾱ(t_m). The network sees
    t_m/(T−1) as a constant plane beside the images, and as its time the largest t_m that is not
    T−1. A modality at T−1 enters as zeros, since noise of full amplitude says nothing and spoils
    the others: one call with the known images at 0 and the missing ones at T−1 gives the posterior
    mean. Source of a level for each part: Multi-domain diffusion, arXiv 2309.14394; Chen 2024,
    *Diffusion forcing*, arXiv 2407.01392.
    """

    SETTINGS: ClassVar[str] = "prior.json"

    def __init__(
        self, unet: Any, settings: PriorSettings, config: Mapping[str, Any] | None = None
    ) -> None:
        """config: what a plugin built ``unet`` of; a diffusers U-Net knows it itself."""
        super().__init__()
        self.unet = unet
        self.config = config
        self.settings = settings
        self.modalities = settings.modalities
        self.levels: Levels = settings.levels
        self.schedule = Schedule(settings.diffusion_steps, settings.schedule)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where ``x_t`` has to be."""
        return next(self.unet.parameters()).device

    @property
    def format(self) -> StackFormat:
        """The images that it was trained on."""
        return self.settings.format

    @property
    def multiple(self) -> int:
        """The network computes images whose sizes are multiples of it; others are padded to it.

        It is patch · 2^k for a U-Net that halves k times. A network of a plugin says how often it
        does by its ``down_blocks``, of which the last does not, and is not padded for without.
        """
        blocks = getattr(self.unet, "down_blocks", None)
        return self.settings.patch * 2 ** (len(blocks) - 1 if blocks else 0)

    @property
    def error_floor(self) -> float:
        """That of its settings."""
        return self.settings.error_floor

    def predict(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's raw output (B, M, H, W) for x_t (B, M, H, W) and t, (B,) or (B, M).

        With one level for all, the M times of an example are the same. Images of sizes that are no
        multiples of :attr:`multiple` are mirrored at their edges, which keeps image and noise as
        likely as they were, and the output is cropped.
        """
        patch = self.settings.patch
        x_t, inside = mirrored(x_t, self.multiple)
        if self.levels == "separate":
            last = self.schedule.steps - 1
            each = t if t.ndim == 2 else t[:, None].expand(-1, x_t.shape[1])
            x_t = torch.where((each == last)[:, :, None, None], 0.0, x_t)
            below = torch.where(each == last, -1, each).amax(1)
            t = torch.where(below > 0, below, each.amax(1))
            told = (each / last)[:, :, None, None].to(x_t.dtype)
            patches = F.pixel_unshuffle(x_t, patch)
            patches = torch.cat([patches, told.expand(-1, -1, *patches.shape[2:])], 1)
        else:
            patches = F.pixel_unshuffle(x_t, patch)
            t = t[:, 0] if t.ndim == 2 else t
        patches = patches.to(next(self.unet.parameters()).dtype)
        out = self.unet(patches.contiguous(memory_format=torch.channels_last), t)
        return F.pixel_shuffle(getattr(out, "sample", out).float(), patch)[inside]

    forward = predict

    def denoise(self, x_t: Tensor, t: Times) -> Tensor:
        """E[x_0 | x_t], (B, M, H, W), not clipped; differentiable in x_t.

        Raises UserError for a time a modality where the prior has one level for all.
        """
        count = len(self.modalities)
        each = [t] * count if isinstance(t, int) else list(t)
        if self.levels == "shared" and len(set(each)) > 1:
            raise UserError(
                "this prior has one noise level for all modalities; train one with levels=separate"
            )
        if len(each) != count:
            raise UserError(f"{len(each)} times; expected one, or one for each of {count}")
        times = torch.tensor(each).to(x_t.device).expand(len(x_t), -1)
        alpha_bar = self.schedule.alpha_bar[each].to(x_t)[:, None, None]
        out = self.predict(x_t, times)
        if self.settings.prediction == "sample":
            return out
        if self.settings.prediction == "v":
            return alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * out
        return (x_t - (1 - alpha_bar).sqrt() * out) / alpha_bar.sqrt()

    def save_memory(self) -> None:
        """Recompute activations where a gradient needs them instead of keeping them.

        MPS and MMPS then hold what enters the network's residual blocks and little of what is
        inside them, for one more forward pass each backward. Results stay the same.
        """
        if not getattr(self.unet, "_supports_gradient_checkpointing", False):
            raise UserError(
                f"network {self.settings.network!r}, as installed, can't recompute its "
                "activations; take fewer slices at a time with --batch-size"
            )
        self.unet.enable_gradient_checkpointing()

    def save(self, folder: str | Path) -> None:
        """Write ``prior.json``, ``config.json`` and the weights as safetensors into ``folder``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.config is None:
            self.unet.save_pretrained(folder)
        else:
            from safetensors.torch import save_file

            (folder / "config.json").write_text(json.dumps(dict(self.config), indent=2) + "\n")
            save_file(self.unet.state_dict(), folder / WEIGHTS)
        write_settings(self.settings, folder)

    @classmethod
    def load(
        cls, folder: str | Path, precision: str = "auto", device: str = "auto"
    ) -> DiffusionPrior:
        """Read a folder written by :meth:`save`.

        Parameters
        ----------
        folder
            With ``prior.json``, ``config.json`` and the weights.
        precision
            "float32", "bfloat16", or "auto": bfloat16 where the hardware multiplies it.
        device
            As torch names it, or "auto": a GPU that CUDA or ROCm knows, else the CPU.

        Raises
        ------
        UserError
            Names the file that is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        settings = read_settings(folder)
        try:
            config = read_json(folder / "config.json")
            unet = build_network(settings.network, config)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(error, folder) from None
        try:
            unet.load_state_dict(load_file(folder / WEIGHTS))
        except FileNotFoundError:
            raise UserError(f"{folder}: no {WEIGHTS}; give a folder written by 'train'") from None
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{folder / WEIGHTS}: damaged, or not the safetensors of this network ({reason}); "
                "copy or train it again"
            ) from None
        prior = cls(unet, settings, None if settings.network == "diffusers" else config)
        # through the wrapper: diffusers' own to(dtype) warns of modules that this network lacks
        where = choose_device(device)
        use_exact_kernels(where)
        prior.to(where, choose_dtype(precision, where.type))
        unet.to(memory_format=torch.channels_last)
        return prior.eval().requires_grad_(False)


def mirrored(images: Tensor, multiple: int) -> tuple[Tensor, tuple[Any, ...]]:
    """Images (B, M, H, W) whose sizes are multiples, and where in them the given ones lie.

    Nothing is changed where the sizes are. Sizes below about a third of ``multiple`` can't be.
    """
    height, width = images.shape[2:]
    top, left = -height % multiple // 2, -width % multiple // 2
    inside = (..., slice(top, top + height), slice(left, left + width))
    bottom, right = -height % multiple - top, -width % multiple - left
    if bottom or right:
        images = F.pad(images, (left, right, top, bottom), mode="reflect")
    return images, inside


def build_network(name: str, config: Mapping[str, Any]) -> Any:
    """An untrained network: diffusers' U-Net, or a plugin's. Its config says all of it."""
    if name == "diffusers":
        from diffusers import UNet2DModel

        return UNet2DModel.from_config(dict(config))
    plugin = find_plugin("any2all.networks", name)
    try:
        return plugin.load().build(dict(config))
    except Exception as error:  # a plugin's own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise UserError(
            f"network {name!r} of {plugin.distribution} can't be built ({type(error).__name__}: "
            f"{reason}); check config.json"
        ) from error


@dataclass(frozen=True)
class BundledPrior:
    """What an entry point of the group ``any2all.priors`` names: a package that carries weights.

    ``folder``: as written by :meth:`DiffusionPrior.save`; ``example``: a patient folder of NIfTI
    files to try it on, if there is one, and ``example_note``: what that patient is.
    """

    folder: Path
    example: Path | None = None
    example_note: str = ""


def weights_hash(folder: str | Path, name: str = WEIGHTS) -> str:
    """SHA-256 of the weight file, which names a prior in reports."""
    with (Path(folder) / name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
