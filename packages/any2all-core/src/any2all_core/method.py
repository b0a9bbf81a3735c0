"""Methods trained for one task, unlike a prior: plugins of the group ``any2all.methods``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from any2all_operators import Operator, UserError
from torch import Tensor, nn

from any2all_core.given import Guides, Scan, proper_subsets
from any2all_core.model_settings import ModelSettings
from any2all_core.noise import Noise

Ability = Literal["synthesis", "reconstruction", "generation"]
"""synthesis makes the missing images from any clean ones, reconstruction makes an image from its
scan and clean guides, and generation makes all images from nothing."""


@dataclass(frozen=True)
class MethodSettings(ModelSettings):
    """Settings of a method beside its weights and options, stored in ``method.json``."""


@dataclass(frozen=True)
class Question:
    """A batch of training examples.

    Parameters
    ----------
    truth
        Augmented images, (B, M, H, W) in [0, 1]; 0 if the patient lacks the image.
    present
        (B, M), whether the patient has the image.
    available
        (B, M), whether the image is given to the method.
    generators
        One generator per example, the source of all its randomness.
    done
        Fraction of the training steps already taken.
    """

    truth: Tensor
    present: Tensor
    available: Tensor
    generators: Sequence[torch.Generator]
    done: float

    @cached_property
    def given(self) -> Tensor:
        """The truth where it is given, and 0 elsewhere, (B, M, H, W)."""
        return self.truth * self.available[:, :, None, None]

    @cached_property
    def wanted(self) -> Tensor:
        """(B, M): the images that the patient has and that are not given."""
        return self.present & ~self.available

    @cached_property
    def noise(self) -> Noise:
        """Source of N(0, 1) noise of the shape of the truth; every call gives fresh noise."""
        count, height, width = self.truth.shape[1:]
        return Noise(self.generators, (count, height, width), self.truth.device)

    def uniform(self) -> Tensor:
        """Draw one number from U[0, 1) for each example, (B,)."""
        numbers = [torch.rand(1, generator=g) for g in self.generators]
        return torch.cat(numbers).to(self.truth.device)


@dataclass(frozen=True)
class Method(ABC):
    """A trainable method: its network, its losses and its inference.

    A method is a dataclass whose fields are its options; the fields of this class belong to the
    shared training. A subclass defines ``abilities``, :meth:`build`, :meth:`losses`, and
    :meth:`complete` or :meth:`recover` or both. :func:`any2all_core.check_method` tests it.

    Parameters
    ----------
    steps
        Number of training steps.
    batch_size
        Examples per step.
    learning_rate
        Peak learning rate. It rises linearly over the first ``warmup`` steps and falls linearly to
        zero over the last fraction ``decay`` of the steps.
    warmup
        Number of warm-up steps.
    decay
        Fraction of the steps, at the end, over which the learning rate falls; 0 to 1.
    ema
        Decay of the moving average of the weights, which is used for inference. 0 uses the weights
        themselves.
    clip_norm
        Largest norm of a gradient; 0 for no limit.
    seed
        Seed of the training.

    Attributes
    ----------
    abilities
        The tasks of the method.
    random
        Whether the answer depends on the noise.
    presets
        {name: {option: value}}. The command line uses ``small`` by default, and tests use ``tiny``.

    Raises
    ------
    UserError
        If an option is out of range.
    """

    steps: int = 7000
    batch_size: int = 16
    learning_rate: float = 2e-4
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.0
    clip_norm: float = 0.0
    seed: int = 0

    abilities: ClassVar[frozenset[Ability]] = frozenset()
    random: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"method: {name}={getattr(self, name)}, expected at least 1")
        if not (self.learning_rate > 0 and 0 <= self.decay <= 1 and 0 <= self.ema < 1):
            raise UserError(
                f"method: learning_rate={self.learning_rate}, decay={self.decay}, ema={self.ema}; "
                "expected above 0, 0 to 1, and 0 to below 1"
            )
        if self.seed < 0 or self.warmup < 0 or self.clip_norm < 0:
            raise UserError(
                f"method: seed={self.seed}, warmup={self.warmup}, clip_norm={self.clip_norm}; "
                "expected at least 0"
            )

    @abstractmethod
    def build(self, settings: MethodSettings) -> nn.Module:
        """Build the untrained network.

        Parameters
        ----------
        settings
            The images of the network, such as their size and modalities.

        Returns
        -------
        Module
            The network, which may have several parts.

        Raises
        ------
        UserError
            If the images do not suit the method.
        """

    @abstractmethod
    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of a step, each with the name of the part that it trains.

        The part's optimizer takes its step before the next loss is computed, so an adversarial
        method yields twice.

        Parameters
        ----------
        network
            The network in training mode.
        question
            The batch of examples, from which all randomness must come.

        Yields
        ------
        tuple
            The part, a key of :meth:`optimizers`, and its loss, a number.
        """

    def optimizers(self, network: nn.Module) -> dict[str, torch.optim.Optimizer]:
        """Make the optimizers; by default Adam for the whole network.

        Parameters
        ----------
        network
            The untrained network.

        Returns
        -------
        dict
            {part: its optimizer}; the default part is "network".
        """
        return {"network": torch.optim.Adam(network.parameters(), lr=self.learning_rate)}

    def given_in_training(
        self, present: Tensor, generators: Sequence[torch.Generator], done: float
    ) -> Tensor:
        """Draw which images of each training example are given.

        By default, each example has an independent, uniformly drawn, proper, non-empty subset. If
        the method generates, the subset is empty with probability NOTHING_GIVEN.

        Parameters
        ----------
        present
            (B, M), whether the patient has the image.
        generators
            One generator for each of the B examples.
        done
            Fraction of the training steps already taken.

        Returns
        -------
        Tensor
            (B, M), whether the image is given.
        """
        return proper_subsets(present, generators, "generation" in self.abilities)

    def targets(self) -> tuple[str, ...]:
        """The modalities that :meth:`recover` can reconstruct, one at a time; by default none."""
        return ()

    def scan_in_training(self, settings: MethodSettings, target: str) -> Operator:
        """The operator of a scan as in training, which validation uses.

        Parameters
        ----------
        settings
            The images of the network.
        target
            Name of the scanned modality.
        """
        raise NotImplementedError

    def takes(self, operator: Operator) -> bool:
        """Whether :meth:`recover` accepts scans of this operator; by default all."""
        return True

    @property
    def calls(self) -> int:
        """Number of network calls for one answer."""
        return 1

    def complete(self, network: Any, given: Tensor, available: Tensor, noise: Noise) -> Tensor:
        """Make every image from the given ones.

        Parameters
        ----------
        network
            The trained network.
        given
            (B, M, H, W) in [0, 1]; 0 where ``available`` is False.
        available
            (B, M), whether the image is given.
        noise
            Source of N(0, 1) noise (B, M, H, W). The noise of a slice does not depend on its batch.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1]. The caller replaces the given images by their originals.
        """
        raise NotImplementedError

    def recover(self, network: Any, scan: Scan, guides: Guides, noise: Noise) -> Tensor:
        """Reconstruct an image from its scan and the guides.

        Parameters
        ----------
        network
            The trained network.
        scan
            The scan of the target.
        guides
            The clean images.
        noise
            Source of N(0, 1) noise (B, M, H, W).

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1]. Images other than the target and the guides may be 0.
        """
        raise NotImplementedError
