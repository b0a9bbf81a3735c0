"""What this machine computes with: its device, its precision, its cores and memory."""

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
"""What torch calls the processors that multiply bfloat16."""
FASTER = 1.3
"""How much faster bfloat16 has to be to be taken; where it is emulated it is slower."""
ROUNDS = 5
CGROUP = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where Linux says how much memory a container, or a job of a cluster, may take."""


@dataclass(frozen=True)
class Machine:
    """What there is to compute with, for this process.

    ``cores`` it may use; ``memory``: bytes that are free; ``gpu``: its name, "" where there is
    none; ``gpu_memory``: bytes, all of it; ``bfloat16``: whether what computes multiplies it in
    hardware.
    """

    cores: int
    memory: int
    gpu: str = ""
    gpu_memory: int = 0
    bfloat16: bool = False

    @classmethod
    def here(cls, device: str = "auto") -> Machine:
        """This machine, as training on ``device`` sees it. Raises UserError for an unknown one.

        Processes that ``torchrun`` started here share its memory.
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
    """Bytes as a user reads them."""
    return f"{count / 1e9:.1f} GB"


def free_memory() -> int:
    """Bytes that this process may still take, by the system and by its container's limit."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    for path in CGROUP:
        try:
            limits.append(int(path.read_text()) - int(psutil.Process().memory_info().rss))
        except (OSError, ValueError):  # no Linux, no container, or no limit ("max")
            continue
    return max(min(limits), 0)


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; ``auto``: this process' GPU, else the CPU. Raises UserError.

    Where there are more processes than GPUs, several share one.
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
    """Have this process take kernels on a GPU that compute what they are asked for.

    cuDNN's attention has NaN gradients in bfloat16 where there are 64 pixels, as in the lowest
    level of a U-Net of four levels for images of 128 x 128 (PyTorch bug 196678). Its convolutions
    of float32 are in TF32 unless told otherwise, and their rounding depends on the batch.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cudnn.allow_tf32 = False


def choose_dtype(precision: str = "auto", device: str = "cpu") -> torch.dtype:
    """bfloat16 where the processor or GPU multiplies it in hardware, else float32."""
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
    """Whether this processor multiplies bfloat16 in hardware; decided once a process."""
    said = any(getattr(torch.cpu, name, lambda: False)() for name in BFLOAT16)
    computed = torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return is_worth_bfloat16(said, computed, bfloat16_speedup)


def is_worth_bfloat16(said: bool, computed: bool, speedup: Callable[[], float]) -> bool:
    """Whether a processor's bfloat16 is worth taking.

    said: it names AMX or AVX512-BF16. computed: oneDNN takes bfloat16 there, which it also does
    where it has to emulate it, and on processors that torch has no name for; so it is measured.
    """
    return said or (computed and speedup() >= FASTER)


@torch.no_grad()
def bfloat16_speedup() -> float:
    """The time of a 3 x 3 convolution in float32 over that in bfloat16; of each the best round.

    The rounds take turns, so that what else the machine does slows both.
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
