"""The training loop: it reads examples, steps, validates and saves, until the end or a signal."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from any2all_operators import UserError
from torch import Tensor

from any2all_core.examples import Examples, ahead

T = TypeVar("T")
Augment = Callable[[Tensor, Sequence[torch.Generator]], Tensor]
GPU_AHEAD = 4
"""Batches prepared in advance while a GPU computes, each by its own thread."""


@dataclass(frozen=True)
class Progress:
    """What training reports to its caller after each step.

    After a validation, ``validation`` holds the figures and ``prior`` the validated model, on the
    device and in the precision of the computation.
    """

    step: int
    loss: float
    images_per_second: float
    validation: dict[str, float] | None = None
    prior: Any = None


@dataclass(frozen=True)
class Wish:
    """What is to follow a step: whether to end the run, and whether its checkpoint is due."""

    stop: bool
    save: bool


@dataclass(frozen=True)
class Taken:
    """The result of a step: its mean loss, the norm of its gradient, and what is to follow."""

    loss: float
    gradient: float
    wish: Wish


@dataclass(frozen=True)
class Meter:
    """The losses since the last checkpoint, and the time and speed since this process began."""

    losses: tuple[float, ...]
    seconds: float
    images_per_second: float

    @property
    def entry(self) -> dict[str, float | None]:
        """The entry of the log."""
        mean = round(sum(self.losses) / len(self.losses), 5) if self.losses else None
        return {"loss": mean, "images_per_second": round(self.images_per_second, 2)}


@dataclass(frozen=True)
class TrainingData:
    """The data of a training run.

    Parameters
    ----------
    examples
        The training examples.
    validation
        Held-out slices (N, M, H, W) in [0, 1].
    augment
        Augmentation of the examples; None for none.
    """

    examples: Examples
    validation: Tensor
    augment: Augment | None = None

    def read(
        self, places: Sequence[int], generators: Sequence[torch.Generator], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Read augmented examples x_0, (B, M, H, W) in [0, 1], onto the device.

        The second result, (B, M), marks absent images, which are 0 in x_0. There is one generator
        per example.
        """
        x_0 = self.examples.read(places)
        absent = x_0.isnan().all((2, 3))
        x_0 = onto(device, x_0).masked_fill(onto(device, absent)[:, :, None, None], 0.0)
        if self.augment is not None:
            x_0 = self.augment(x_0, generators)
        return x_0, absent


@dataclass(frozen=True)
class TrainingRun:
    """Where a training run is stored, and how it is carried out.

    Parameters
    ----------
    output
        Folder of the run.
    resume
        Whether to continue from the checkpoint in the folder.
    precision
        "auto", "float32" or "bfloat16".
    checkpoint_every, validate_every
        Number of steps between checkpoints and between validations.
    checkpoint_minutes
        Minutes between checkpoints, if so many steps take longer.
    report
        Called after each step.
    """

    output: Path
    resume: bool = False
    precision: str = "auto"
    checkpoint_every: int = 250
    validate_every: int = 250
    checkpoint_minutes: float = 10
    report: Callable[[Progress], None] = field(default=lambda _: None)


class Stopped(Exception):
    """The process received ``signal`` and stopped; the run is saved at ``step``."""

    def __init__(self, step: int, signal_: signal.Signals) -> None:
        super().__init__(f"{signal_.name}: stopped at step {step}")
        self.step, self.signal = step, signal_


@dataclass(frozen=True)
class Loop(Generic[T]):
    """The training loop.

    Parameters
    ----------
    training_run
        Where and how often the run is saved.
    question
        Makes the examples of a step. Threads call it in advance.
    take
        Takes a step on these examples. Its last argument tells what is to follow, which several
        processes have to agree on.
    judge
        Returns the validation figures and the validated model.
    save
        Writes the checkpoint of a step with its figures.
    batch
        Number of examples per step.
    """

    training_run: TrainingRun
    question: Callable[[int], T]
    take: Callable[[int, T, Callable[[], Wish]], Taken]
    judge: Callable[[], tuple[dict[str, float], Any]]
    save: Callable[[int, dict[str, float], Meter], None]
    batch: int

    def run(self, steps: range, device: torch.device) -> None:
        """Take these steps.

        Raises UserError if a loss is not finite, and Stopped on SIGTERM or SIGINT.
        """
        clock, seconds, rate = time.perf_counter(), 0.0, 0.0
        losses: list[float] = []
        kept, saved = self.training_run, clock

        def wish() -> Wish:
            return Wish(ending.is_set(), time.perf_counter() - saved > 60 * kept.checkpoint_minutes)

        workers = GPU_AHEAD if device.type == "cuda" else 1
        with _terminated() as ending, closing(ahead(self.question, steps, workers)) as questions:
            for step, asked in zip(steps, questions, strict=True):
                taken = self.take(step, asked, wish)
                losses.append(taken.loss)
                if not math.isfinite(taken.loss + taken.gradient):
                    raise UserError(
                        f"step {step}: the loss is {taken.loss}, its gradient {taken.gradient}; "
                        f"{kept.output} keeps the last checkpoint, if any; train again with a "
                        "lower learning_rate"
                    )
                seconds += time.perf_counter() - clock
                rate = (step + 1 - steps.start) * self.batch / seconds
                done, figures, judged = step + 1, None, None
                last = done == steps.stop
                if last or done % kept.validate_every == 0:
                    figures, judged = self.judge()
                due = taken.wish.stop or taken.wish.save or done % kept.checkpoint_every == 0
                if last or figures or due:
                    self.save(done, figures or {}, Meter(tuple(losses), seconds, rate))
                    losses.clear()
                    saved = time.perf_counter()
                if taken.wish.stop:
                    raise Stopped(done, ending.signal)
                kept.report(Progress(done, taken.loss, rate, figures, judged))
                clock = time.perf_counter()


class Rates(Protocol):
    """The fields of a recipe that determine its learning rate."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...
    @property
    def decay(self) -> float: ...


def learning_rate(recipe: Rates, step: int) -> float:
    """The share of the peak learning rate at a step: warm-up, plateau, linear decay to zero."""
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    tail = recipe.decay * recipe.steps
    fall = min(1.0, (recipe.steps - step) / tail) if tail else 1.0
    return min(rise, fall)


def averaging(ema: float, step: int) -> float:
    """The decay of the weights' moving average at a step: min(ema, (1 + step)/(10 + step))."""
    return min(ema, (1 + step) / (10 + step))


def onto(device: torch.device, tensor: Tensor) -> Tensor:
    """Copy a tensor to the device without waiting for a busy GPU."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class _Ending:
    """Records whether a signal asked the process to stop, and which signal."""

    def __init__(self) -> None:
        self.signal = signal.SIGTERM
        self.asked = threading.Event()

    def take(self, number: int, frame: object) -> None:
        """Handle a signal. A later Ctrl-C ends the process at once."""
        self.signal = signal.Signals(number)
        self.asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def is_set(self) -> bool:
        return self.asked.is_set()


@contextmanager
def _terminated() -> Iterator[_Ending]:
    """Record SIGTERM and SIGINT instead of ending the process at once.

    If SIGINT is ignored, as in background jobs of a shell, it stays ignored.
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
