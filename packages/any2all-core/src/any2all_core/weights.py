"""The weights of a training run: masters, working copy and moving average, and their devices."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from any2all_operators import UserError
from torch import Tensor
from torch.utils._pytree import tree_map

from any2all_core.hardware import use_exact_kernels
from any2all_core.prior import DiffusionPrior

if TYPE_CHECKING:
    from accelerate import Accelerator


def engine() -> Accelerator:
    """The processes and devices of this run, as ``torchrun`` or ``accelerate launch`` set them."""
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())  # by default, it ignores CPU processes


def is_sharded(accelerator: Accelerator, shard: bool) -> bool:
    """Whether the weights are divided: by ``shard``, or by the configuration of accelerate."""
    return shard or str(accelerator.distributed_type) == "DistributedType.FSDP"


class Weights:
    """Float32 master weights, a working copy in ``dtype``, and the moving average.

    The optimizer updates the masters, and the working copy computes. By default every process holds
    all of them, and gradients are averaged over the processes (DDP). With ``shard``, each process
    holds a part of the masters, the average and Adam's moments. Parameters are then gathered, in
    ``dtype``, only while a block of the U-Net computes (FSDP, ``fully_shard``; Zhao 2023, arXiv
    2304.11277).
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        ema: DiffusionPrior,
        dtype: torch.dtype,
        accelerator: Accelerator,
        *,
        shard: bool,
    ) -> None:
        """``prior`` holds the masters, which move to the accelerator's device; ``ema`` the mean."""
        device = accelerator.device
        self.sharded = is_sharded(accelerator, shard)
        if self.sharded and accelerator.num_processes == 1:
            raise UserError("--shard: there is one process; start several with torchrun")
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # tf32
        use_exact_kernels(device)
        self.prior, self._ema = prior, ema
        worker: Any = prior
        if self.sharded:
            _shard(prior, dtype, device.type)
        else:
            prior.to(device)
            ema.to(device)
            if dtype != torch.float32:
                worker = copy.deepcopy(prior).to(dtype)
        if device.type == "cuda":
            (prior if self.sharded else worker).unet.compile(dynamic=False)  # half size, and whole
        self.masters: list[Tensor] = list(prior.parameters())
        self._workers: list[Tensor] = list(worker.parameters())
        self._average: list[Tensor] = list(ema.parameters())
        if self.sharded:
            self._average = [
                _like(whole, p) for whole, p in zip(ema.parameters(), self.masters, strict=True)
            ]
        elif accelerator.num_processes > 1:
            worker = accelerator.prepare_model(worker)
        self._network = worker

    def predict(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's raw output, (B, M, H, W)."""
        out: Tensor = self._network(x_t, t)
        return out

    def hand_over(self) -> None:
        """Add the working copy's gradients to the masters', in float32."""
        if self._workers[0] is self.masters[0]:
            return
        for master, part in zip(self.masters, self._workers, strict=True):
            if part.grad is not None:
                new = part.grad.float()
                master.grad = new if master.grad is None else master.grad.add_(new)
                part.grad = None

    def clip(self, largest: float) -> Tensor:
        """Scale all gradients to a norm of at most ``largest``; returns the norm before."""
        norm: Any = torch.nn.utils.clip_grad_norm_(self.masters, largest)
        return norm.full_tensor() if self.sharded else norm

    @torch.no_grad()
    def stepped(self, decay: float) -> None:
        """Update the working copy, and average ← decay · average + (1 − decay) · masters."""
        torch._foreach_lerp_(self._average, self.masters, 1 - decay)
        if self._workers[0] is not self.masters[0]:
            torch._foreach_copy_(self._workers, self.masters)

    @torch.no_grad()
    def ema(self) -> DiffusionPrior:
        """The averaged prior, gathered from all processes. All of them must call this."""
        if self.sharded:
            for whole, part in zip(self._ema.parameters(), self._average, strict=True):
                whole.copy_(_whole(part))
        return self._ema

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state of a checkpoint, gathered from all processes. All of them must call this."""
        state = {
            "prior": self.prior.state_dict(),
            "ema": self.ema().state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        return tree_map(_whole, state) if self.sharded else state

    def load(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Load an optimizer's state that :meth:`state` returned."""
        stepped = [weight for group in optimizer.param_groups for weight in group["params"]]
        moments = {
            i: {n: _like(v, stepped[i]) if v.ndim else v for n, v in of.items()}
            for i, of in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": moments})


def _shard(prior: DiffusionPrior, dtype: torch.dtype, device: str) -> None:
    """Shard the prior block by block, so that no device ever holds all of it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    unet = prior.unet.to(memory_format=torch.contiguous_format)  # the only format it accepts
    blocks: Sequence[Any] = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    for module in [*blocks, prior]:
        fully_shard(module, mesh=mesh, mp_policy=policy)


def _like(whole: Tensor, weight: Tensor) -> Tensor:
    """A tensor that all processes hold, distributed like ``weight``, as fused Adam requires."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(weight, DTensor):
        return torch.empty_like(weight).copy_(whole)
    whole = whole.to(weight.device).contiguous()
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _whole(value: Any) -> Any:
    from torch.distributed.tensor import DTensor

    return value.full_tensor().cpu() if isinstance(value, DTensor) else value
