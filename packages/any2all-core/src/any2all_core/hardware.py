"""The hardware of this machine: device, precision, cores and memory."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from any2all_operators import UserError

BFLOAT16 = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
"""torch's tests for processors that multiply bfloat16 in hardware."""
FASTER = 1.3
"""Smallest speed-up at which bfloat16 is used; emulated bfloat16 is slower than float32."""
ROUNDS = 5
CGROUP = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Files in which Linux stores the memory limit of a container or a cluster job."""


@dataclass(frozen=True)
class Machine:
    """The hardware available to this process.

    ``cores`` is the number of usable cores, ``memory`` the free memory in bytes, ``gpu`` the name
    of the GPU or "", ``gpu_memory`` its total memory in bytes, and ``bfloat16`` tells whether the
    GPU, or else the CPU, multiplies bfloat16 in hardware.
    """

    cores: int
    memory: int
    gpu: str = ""
    gpu_memory: int = 0
    bfloat16: bool = False

    @classmethod
    def here(cls, device: str = "auto") -> Machine:
        """This machine, for training on ``device``. Raises UserError if the device is unknown.

        The memory is divided among the processes that ``torchrun`` started here.
        """
        where = choose_device(device)
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        name, memory = "", 0
        if where.type == "cuda":
            told = torch.cuda.get_device_properties(where)
            name, memory = told.name, told.total_memory
        bfloat16 = choose_dtype("auto", where.type) == torch.bfloat16
        return cls(cores, free_memory() // beside, name, memory, bfloat16)

    def __str__(self) -> str:
        said = [f"{self.cores} core{'s' * (self.cores > 1)}", f"{gigabytes(self.memory)} free"]
        said.append(f"{self.gpu} of {gigabytes(self.gpu_memory)}" if self.gpu else "no GPU")
        return ", ".join([*said, "bfloat16" if self.bfloat16 else "float32"])


def gigabytes(count: float) -> str:
    """A number of bytes as text in GB."""
    return f"{count / 1e9:.1f} GB"


def free_memory() -> int:
    """Bytes that this process may still allocate, by the system's and the container's limits."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    for path in CGROUP:
        try:
            limits.append(int(path.read_text()) - int(psutil.Process().memory_info().rss))
        except (OSError, ValueError):  # not Linux, no container, or no limit ("max")
            continue
    return max(min(limits), 0)


def choose_device(name: str = "auto") -> torch.device:
    """The torch device of this name; ``auto`` is this process' GPU, or the CPU if there is none.

    If there are more processes than GPUs, several share one. Raises UserError if the device cannot
    be used.
    """
    if name == "auto":
        gpus, rank = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
        name = f"cuda:{rank % gpus}" if gpus else "cpu"
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device {name!r} can't be used ({reason}); use auto, cpu, or cuda:N"
        ) from None


def use_exact_kernels(device: torch.device) -> None:
    """Disable inexact GPU kernels in this process.

    cuDNN's attention has NaN gradients in bfloat16 for 64 pixels, which occur in the lowest level
    of a U-Net with four levels for images of 128 x 128 (PyTorch bug 196678). By default, its
    float32 convolutions use TF32, whose rounding depends on the batch.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cudnn.allow_tf32 = False


def choose_dtype(precision: str = "auto", device: str = "cpu") -> torch.dtype:
    """The dtype of a precision; "auto" is bfloat16 if the hardware multiplies it, else float32."""
    if precision == "auto":
        if device == "cuda":
            has = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has = processor_has_bfloat16()
        return torch.bfloat16 if has else torch.float32
    try:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    except KeyError:
        raise UserError(
            f"precision {precision!r} is unknown: use auto, float32 or bfloat16"
        ) from None


@functools.cache
def processor_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; tested once per process."""
    said = any(getattr(torch.cpu, name, lambda: False)() for name in BFLOAT16)
    computed = torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return is_worth_bfloat16(said, computed, bfloat16_speedup)


def is_worth_bfloat16(said: bool, computed: bool, speedup: Callable[[], float]) -> bool:
    """Whether to use a processor's bfloat16.

    ``said`` tells whether the processor reports AMX or AVX512-BF16. ``computed`` tells whether
    oneDNN accepts bfloat16. It does so also where it emulates it, and on processors that torch does
    not know, so in that case the speed-up is measured.
    """
    return said or (computed and speedup() >= FASTER)


@torch.no_grad()
def bfloat16_speedup() -> float:
    """The time of a 3 x 3 convolution in float32 divided by that in bfloat16, each at its best.

    The precisions take turns, so that other load of the machine slows both.
    """
    best: dict[torch.dtype, float] = {}
    for _ in range(ROUNDS):
        for dtype in (torch.float32, torch.bfloat16):
            image = torch.ones(4, 64, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
            weight = torch.ones(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
            clock = time.perf_counter()
            F.conv2d(image, weight, padding=1)
            best[dtype] = min(best.get(dtype, float("inf")), time.perf_counter() - clock)
    return best[torch.float32] / best[torch.bfloat16]
