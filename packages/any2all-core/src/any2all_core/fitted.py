"""A trained method, which is stored in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from any2all_operators import Operator, UserError
from torch import Tensor, nn

from any2all_core.given import Guides, Scan
from any2all_core.hardware import choose_device
from any2all_core.method import Ability, Method, MethodSettings
from any2all_core.model_settings import images_of
from any2all_core.named_methods import method_of
from any2all_core.noise import Noise
from any2all_core.prior_settings import read_json

FORMAT = 2
"""Format of ``method.json``. Format 1, which is still read, described images as format 1 of
``prior.json`` does."""
WEIGHTS = "model.safetensors"
METHOD = "method.json"


@dataclass
class FittedMethod:
    """A method with its trained network.

    A given image is returned bit for bit. The method sees a missing image as 0.

    Parameters
    ----------
    name
        Qualified name of the method's entry point.
    method
        The method with its options.
    network
        The trained network.
    settings
        The images that it was trained on, and a record of the training.
    """

    SETTINGS: ClassVar[str] = METHOD

    name: str
    method: Method
    network: nn.Module
    settings: MethodSettings

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.settings.modalities

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def complete(self, given: Tensor, available: Sequence[str], noise: Noise | int = 0) -> Tensor:
        """Make every image from the clean ones.

        Parameters
        ----------
        given
            (B, M, H, W) in [0, 1]. Images that are not available are ignored.
        available
            Names of the given modalities.
        noise
            A source of N(0, 1) noise (B, M, H, W), or a seed. With a seed, the noise of slice b
            depends only on (seed, b).

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].

        Raises
        ------
        UserError
            If the method is not made for this task, or does not know a modality.
        """
        self._require("synthesis" if available else "generation")
        images, there = self._given(given, available)
        made = self.method.complete(self.network, images, there, self._noise(noise, images))
        return _pasted(made, images, there)

    @torch.no_grad()
    def recover(
        self,
        data: Tensor,
        operator: Operator,
        target: str,
        *,
        given: Tensor,
        available: Sequence[str],
        noise: Noise | int = 0,
    ) -> Tensor:
        """Reconstruct the image of a scan, guided by clean images.

        Parameters
        ----------
        data
            The scan y = A x + n, (B, ...).
        operator
            A.
        target
            Name of the scanned modality.
        given
            (B, M, H, W) in [0, 1], the guides. Images that are not available are ignored.
        available
            Names of the guides.
        noise
            As in :meth:`complete`.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1]. Images other than the target and the guides may be 0.

        Raises
        ------
        UserError
            If the method is not made for this task, target or operator.
        """
        self._require("reconstruction")
        targets = self.method.targets()
        if target not in targets:
            raise UserError(
                f"method {self.name} reconstructs {', '.join(targets)}, not {target}; train one "
                f"with target={target}, or take a prior"
            )
        if not self.method.takes(operator):
            raise UserError(
                f"method {self.name} is not made for a {type(operator).__name__} of {target}; take "
                "a prior"
            )
        images, there = self._given(given, available)
        scan = Scan(data.to(self.device), operator.to(self.device), self._place(target))
        guides = Guides(images, there)
        made = self.method.recover(self.network, scan, guides, self._noise(noise, images))
        return _pasted(made, images, there)

    def answered(self, known: Sequence[str]) -> tuple[str, ...]:
        """The modalities that the method returns if the modalities ``known`` have data."""
        if "synthesis" in self.method.abilities:
            return self.modalities
        return tuple(m for m in self.modalities if m in known)

    def save(self, folder: str | Path) -> None:
        """Write ``method.json`` and the weights, as safetensors, into ``folder``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {n: w.detach().cpu().contiguous() for n, w in self.network.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        said = {"format": FORMAT, "method": self.name, "options": asdict(self.method)}
        said |= {"images": self.settings.format.to_json(), "training": self.settings.training}
        text = json.dumps(said, indent=2)
        (folder / METHOD).write_text(text + "\n")

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> FittedMethod:
        """Read a folder written by :meth:`save`.

        Parameters
        ----------
        folder
            Folder with ``method.json`` and the weights.
        device
            A torch device, or "auto": a GPU if there is one, otherwise the CPU.

        Raises
        ------
        UserError
            If a file is missing or damaged, or the method's package is not installed.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / METHOD).is_file():
            raise UserError(
                f"{folder}: no {METHOD} in it; expected a folder written by any2all train --method"
            )
        said = read_json(folder / METHOD)
        if said.pop("format", None) not in (1, FORMAT):
            raise UserError(f"{folder / METHOD}: not of format 1 or {FORMAT}; update any2all")
        try:
            name, options = said.pop("method"), said.pop("options")
            settings = MethodSettings(images_of(said), **said)
            method = method_of(name, options)
            network = method.build(settings)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise UserError(
                f"{folder / METHOD}: damaged, or of another version ({reason}); copy it again"
            ) from None
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except FileNotFoundError:
            raise UserError(f"{folder}: no {WEIGHTS}; copy the folder again") from None
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{folder / WEIGHTS}: damaged, or not of this network ({reason}); copy it again"
            ) from None
        network.to(choose_device(device)).eval().requires_grad_(False)
        return cls(name, method, network, settings)

    def _require(self, ability: Ability) -> None:
        able = self.method.abilities
        if ability not in able:
            raise UserError(
                f"method {self.name} is not made for {ability}, but for "
                f"{' and '.join(sorted(able))}; take another method, or a prior"
            )

    def _place(self, modality: str) -> int:
        if modality not in self.modalities:
            raise UserError(
                f"unknown modality {modality}; this method knows {', '.join(self.modalities)}"
            )
        return self.modalities.index(modality)

    def _given(self, given: Tensor, available: Sequence[str]) -> tuple[Tensor, Tensor]:
        there = torch.zeros(given.shape[:2], dtype=torch.bool, device=self.device)
        there[:, [self._place(m) for m in available]] = True
        given = given.to(self.device)
        return torch.where(there[:, :, None, None], given, torch.zeros_like(given)), there

    def _noise(self, noise: Noise | int, images: Tensor) -> Noise:
        if isinstance(noise, Noise):
            return noise
        entries = [(b, 0) for b in range(len(images))]
        count, height, width = images.shape[1:]
        return Noise.of_slices(noise, entries, (count, height, width), self.device)


def _pasted(made: Tensor, given: Tensor, available: Tensor) -> Tensor:
    return torch.where(available[:, :, None, None], given, made.float().clamp(0, 1))
