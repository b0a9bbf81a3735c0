"""The common part of the three methods of guided reconstruction: their training scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from any2all_core.given import Guides, Scan
from any2all_core.method import Ability, Method, MethodSettings, Question
from any2all_mri.kspace import SIMULATED_NOISE_STD, KSpace
from any2all_mri.phase import SimulatedPhase
from any2all_operators import Operator, SenseFourier, UnknownPhase, UserError
from torch import Tensor, nn

from any2all_baselines.images import planes


@dataclass(frozen=True)
class Guided(Method):
    """Reconstruction of ``target`` from k-space, guided by any subset of the other images.

    The training scans are simulated by the operator ``kspace`` with ``coils``, ``acs_lines`` and
    ``noise_std``. Each example draws its own equispaced mask, with an R among ``acceleration`` and
    an offset of 0 ... R−1 lines. The guides of each example are drawn uniformly from all subsets,
    including none and all.
    """

    target: str = "FLAIR"
    acceleration: tuple[int, ...] = (4,)
    coils: int = 8
    acs_lines: int = 8
    noise_std: float = SIMULATED_NOISE_STD

    abilities: ClassVar[frozenset[Ability]] = frozenset({"reconstruction"})

    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def takes(self, operator: Operator) -> bool:
        return isinstance(operator, SenseFourier | UnknownPhase | SimulatedPhase)

    def given_in_training(
        self, present: Tensor, generators: Sequence[torch.Generator], done: float
    ) -> Tensor:
        chosen = [torch.rand(present.shape[1], generator=g) < 0.5 for g in generators]
        return present & torch.stack(chosen)

    def scan_in_training(self, settings: MethodSettings, target: str) -> Operator:
        return self._scans[0].build(*settings.image_size)

    @property
    def _scans(self) -> tuple[KSpace, ...]:
        """One scan for each acceleration."""
        more = (self.coils, self.acs_lines, self.noise_std)
        return tuple(KSpace(acceleration, *more) for acceleration in self.acceleration)

    def place(self, settings: MethodSettings) -> int:
        """Channel of the target. Raises UserError if there is no target or no guide."""
        if self.target not in settings.modalities or len(settings.modalities) < 2:
            raise UserError(
                f"target={self.target}: the images are {', '.join(settings.modalities)}; expected "
                "one of them, with others to guide it"
            )
        return settings.modalities.index(self.target)

    def asked(self, network: Any, question: Question) -> tuple[Scan, Guides, Tensor]:
        """Scans of the examples, their guides, and which examples have the target, (B, 1)."""
        place = int(network.place)
        size = question.truth.shape[2:]
        combs = every_comb(self._scans, (size[0], size[1]), question.truth.device)
        index = (question.uniform() * len(combs.mask)).long()
        operator = combs.select(index)
        data = operator.measure(question.truth[:, place], question.generators)
        available = question.available.clone()
        available[:, place] = False
        images = question.truth * available[:, :, None, None]
        known = question.present[:, [place]]
        return Scan(data, operator, place), Guides(images, available), known


class GuidedNetwork(nn.Module):
    """A network that stores which of the ``modalities`` channels is the target."""

    def __init__(self, place: int, modalities: int) -> None:
        super().__init__()
        self.place = place
        self.others = [m for m in range(modalities) if m != place]

    def guides(self, guides: Guides) -> Tensor:
        """Guides in [0, 1], 0 if missing, and planes of which are given: (B, 2(M−1), H, W)."""
        images = guides.images[:, self.others]
        return torch.cat([images, planes(guides.available[:, self.others], images)], 1)

    def in_place(self, image: Tensor, others: Tensor | None = None) -> Tensor:
        """Put a target (B, H, W), and optionally the guides, into a stack (B, M, H, W) of zeros."""
        batch, height, width = image.shape
        stack = image.new_zeros(batch, len(self.others) + 1, height, width)
        stack[:, self.place] = image
        if others is not None:
            stack[:, self.others] = others.to(stack.dtype)
        return stack


@lru_cache(maxsize=4)
def every_comb(
    scans: tuple[KSpace, ...], size: tuple[int, int], device: torch.device
) -> SenseFourier:
    """One scan whose slices have all masks of these scans, (K, H, W), with offsets 0 ... R−1."""
    combs = [
        replace(scan, offset=offset).build(*size)
        for scan in scans
        for offset in range(scan.acceleration)
    ]
    masks = [comb.mask.expand(size) for comb in combs if isinstance(comb, SenseFourier)]
    first = combs[0]
    assert isinstance(first, SenseFourier)
    return SenseFourier(first.coil_maps, torch.stack(masks), first.noise_std).to(device)


def zero_filled(scan: Scan) -> Tensor:
    """A* y divided by the share of acquired samples, (B, H, W), so that A* A has a peak of 1.

    If the phase is unknown, the result is the magnitude.
    """
    operator = scan.operator
    sense = operator.scan if isinstance(operator, UnknownPhase) else operator
    assert isinstance(sense, SenseFourier)
    share = sense.mask.mean((1, 2)) if sense.mask.ndim == 3 else sense.mask.mean()[None]
    image = sense.adjoint(scan.data)
    return (image.abs() if image.is_complex() else image) / share[:, None, None]
