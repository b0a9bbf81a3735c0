"""The prior: the distribution of images before any measurement, read as a denoiser."""

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
from any2all_core.padding import mirrored
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
"""One time of the schedule for all modalities, or one per modality."""
WEIGHTS = "diffusion_pytorch_model.safetensors"


@runtime_checkable
class Prior(Protocol):
    """The interface that every sampler uses.

    Attributes
    ----------
    modalities
        Names of the M modalities, in the order of the channels.
    schedule
        The noise schedule.
    """

    modalities: tuple[str, ...]
    schedule: Schedule

    def denoise(self, x_t: Tensor, t: Times) -> Tensor:
        """Compute E[x_0 | x_t], differentiable in x_t.

        A prior may have two more attributes: ``levels`` = "separate" if it takes one time per
        modality, and ``error_floor``, the smallest standard deviation of the error of x̂_0 in
        [0, 1] units.

        Parameters
        ----------
        x_t
            (B, M, H, W), where clean images lie in [−1, 1].
        t
            The time of all modalities, or, with separate levels, one per modality, (M,). Then 0
            means that an image is known exactly, and T−1 that nothing is known about it, whatever
            x_t holds there.

        Returns
        -------
        Tensor
            (B, M, H, W), not clipped.
        """
        ...


def has_separate_levels(prior: Prior) -> bool:
    """Whether a prior takes one time per modality."""
    return getattr(prior, "levels", "shared") == "separate"


class DiffusionPrior(nn.Module):
    """A U-Net trained to predict ε, v or x_0, used as the denoiser x̂_0 = E[x_0 | x_t].

    epsilon: x̂_0 = (x_t − √(1−ᾱ) ε̂)/√ᾱ; v: x̂_0 = √ᾱ x_t − √(1−ᾱ) v̂; sample: x̂_0 itself.

    With ``levels`` "separate", modality m has its own time t_m and ᾱ(t_m). The network receives
    t_m/(T−1) as a constant plane beside the images, and the largest t_m below T−1 as its time. A
    modality at T−1 enters as zeros, because noise of full amplitude has no information and disturbs
    the others. One call with the known images at 0 and the missing ones at T−1 gives the posterior
    mean.

    References
    ----------
    Ho 2020, eq. 15 (epsilon); Salimans & Ho 2022, app. D (v); Multi-domain diffusion, arXiv
    2309.14394, and Chen 2024, *Diffusion forcing*, arXiv 2407.01392 (separate levels).
    """

    SETTINGS: ClassVar[str] = "prior.json"

    def __init__(
        self, unet: Any, settings: PriorSettings, config: Mapping[str, Any] | None = None
    ) -> None:
        """``config`` is what a plugin built ``unet`` from; a diffusers U-Net holds its own."""
        super().__init__()
        self.unet = unet
        self.config = config
        self.settings = settings
        self.modalities = settings.modalities
        self.levels: Levels = settings.levels
        self.schedule = Schedule(settings.diffusion_steps, settings.schedule)

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which ``x_t`` must be."""
        return next(self.unet.parameters()).device

    @property
    def format(self) -> StackFormat:
        """The format of the images that the prior was trained on."""
        return self.settings.format

    @property
    def multiple(self) -> int:
        """Images are padded to sizes that are multiples of this number of pixels.

        It is patch · 2^k for a U-Net that halves the image k times. k is the number of its
        ``down_blocks`` minus 1; for a plugin's network without ``down_blocks``, k is 0.
        """
        blocks = getattr(self.unet, "down_blocks", None)
        return self.settings.patch * 2 ** (len(blocks) - 1 if blocks else 0)

    @property
    def error_floor(self) -> float:
        """``PriorSettings.error_floor``."""
        return self.settings.error_floor

    def predict(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's raw output (B, M, H, W) for x_t (B, M, H, W) and t, (B,) or (B, M).

        With a shared level, the M times of an example are equal. Images whose sizes are not
        multiples of :attr:`multiple` are padded by reflection, which keeps the statistics of image
        and noise, and the output is cropped.
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
        """E[x_0 | x_t], (B, M, H, W); see :meth:`Prior.denoise`.

        Raises UserError for different times if the prior has one level for all modalities.
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
        """Recompute activations for gradients instead of storing them (gradient checkpointing).

        MPS and MMPS then need less memory, and one more forward pass per backward pass. Results
        stay the same. Raises UserError if the network does not support it.
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
            Folder with ``prior.json``, ``config.json`` and the weights.
        precision
            "float32", "bfloat16", or "auto", which is bfloat16 if the hardware supports it.
        device
            A torch device, or "auto": a GPU of CUDA or ROCm if there is one, otherwise the CPU.

        Raises
        ------
        UserError
            If a file is missing or damaged. The message names it.
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


def build_network(name: str, config: Mapping[str, Any]) -> Any:
    """Build an untrained network, a diffusers U-Net or a plugin's, from its config."""
    if name == "diffusers":
        from diffusers import UNet2DModel

        return UNet2DModel.from_config(dict(config))
    plugin = find_plugin("any2all.networks", name)
    try:
        return plugin.load().build(dict(config))
    except Exception as error:  # a plugin may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise UserError(
            f"network {name!r} of {plugin.distribution} can't be built ({type(error).__name__}: "
            f"{reason}); check config.json"
        ) from error


@dataclass(frozen=True)
class BundledPrior:
    """A prior that comes with a package, as an entry point of the group ``any2all.priors``.

    Parameters
    ----------
    folder
        Folder written by :meth:`DiffusionPrior.save`.
    example
        Patient folder of NIfTI files to try the prior on, if there is one.
    example_note
        Description of that patient.
    """

    folder: Path
    example: Path | None = None
    example_note: str = ""


def weights_hash(folder: str | Path, name: str = WEIGHTS) -> str:
    """SHA-256 of the weight file, which identifies a prior in reports."""
    with (Path(folder) / name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
