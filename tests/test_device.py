"""What runs on a GPU, on one that is played by the CPU and that no tensor enters unasked."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from any2all_core import DiffusionPrior, PriorSettings, make_sampler, reconstruct, simulate
from any2all_core.examples import InMemory
from any2all_core.network import build_prior
from any2all_core.prior import Levels, choose_device
from any2all_core.recipe import Optimizer, Recipe
from any2all_core.training import train
from any2all_operators import (
    BlockDiagonal,
    FieldOfView,
    Identity,
    SenseFourier,
    UserError,
    equispaced_mask,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("meta")


class OnGPU(Tensor):
    """A tensor that says it lies on a GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGPU":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=GPU
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"OnGPU({self.held})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return Playing.run(function, args, kwargs or {})


class Playing(TorchDispatchMode):
    """Computes for OnGPU tensors on the CPU, and fails where real ones would have to be moved."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return self.run(function, args, kwargs or {})

    @staticmethod
    def run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        there = [isinstance(x, OnGPU) for x in tensors]
        name = function._overloadpacket.__name__
        wanted = kwargs.get("device")
        moves = name in {"_to_copy", "copy_"}
        if any(there) and not all(there) and not moves:
            lost = [x for x in tensors if not isinstance(x, OnGPU) and x.ndim]
            assert not lost, f"{function}: {[tuple(x.shape) for x in lost]} still on the CPU"
        if wanted is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        args, kwargs = tree_map(lambda x: x.held if isinstance(x, OnGPU) else x, (args, kwargs))
        result = function(*args, **kwargs)
        if name == "copy_":
            return tensors[0]
        goes = torch.device(wanted) == GPU if wanted is not None else any(there)
        if not goes:
            return result
        return tree_map(lambda x: OnGPU(x) if isinstance(x, Tensor) else x, result)


@pytest.fixture
def played() -> Iterator[None]:
    # a module's weights are else moved by way of .data, of which such a tensor knows nothing
    torch.__future__.set_swap_module_params_on_conversion(True)
    with Playing():
        yield
    torch.__future__.set_swap_module_params_on_conversion(False)


def small_prior(levels: Levels) -> DiffusionPrior:
    torch.manual_seed(0)
    recipe = Recipe(channels=(8, 16), blocks=1, attention_levels=1, norm_groups=4)
    settings = PriorSettings(("T1", "FLAIR", "CT"), (16, 16), levels=levels)
    prior = build_prior(recipe, settings).eval().requires_grad_(False)
    with torch.no_grad():
        for weights in prior.parameters():  # which start at zero where it matters most
            weights.add_(0.02 * torch.randn(weights.shape))
    return prior


def scan(lines_only: bool) -> SenseFourier:
    maps = torch.randn(2, 12, 16, dtype=torch.complex64)
    maps /= maps.abs().square().sum(0).sqrt()
    mask = equispaced_mask(16, 2, 4)
    return SenseFourier(maps, mask if lines_only else mask * (torch.arange(12)[:, None] < 11), 0.01)


@pytest.mark.parametrize(
    ("sampler", "levels"),
    [
        *((name, "shared") for name in ("ddpm", "mds", "mps")),
        *((name, "separate") for name in ("ddpm", "mds", "mps", "mcs", "mean")),
    ],
)
@pytest.mark.parametrize("lines_only", [True, False])
def test_gpu_draws_as_the_cpu(sampler: str, levels: Levels, lines_only: bool, played: None) -> None:
    prior = small_prior(levels)
    operator = BlockDiagonal(
        {"T1": Identity(), "FLAIR": FieldOfView(scan(lines_only), (12, 16), (16, 16))}
    )
    data = simulate(operator, torch.rand(3, 2, 16, 16))
    if sampler == "ddpm":
        operator, data = BlockDiagonal({}), {}
    if sampler == "mean":  # a clean image and a noisy one
        operator = BlockDiagonal({"T1": Identity(), "FLAIR": Identity(0.1)})
        data = simulate(operator, torch.rand(3, 2, 16, 16))
    options = {"shape": (3, 16, 16), "batch_size": 2}
    # a strong pull in few steps would make rounding errors grow
    weak = {"mps": {"steps": "4", "zeta": "0.01"}, "mean": {}}
    draw = make_sampler(sampler, weak.get(sampler, {"steps": "4"}))
    on_cpu = reconstruct(prior, operator, data, draw, **options)
    asked: list[torch.device] = []
    prior.to(GPU)
    prior.unet.register_forward_pre_hook(lambda _, given: asked.append(given[0].device))
    on_gpu = reconstruct(prior, operator, data, draw, **options)
    assert asked
    assert all(device == GPU for device in asked)
    assert on_gpu.device.type == "cpu"
    assert torch.allclose(on_cpu, on_gpu, atol=1e-5)


def in_turn(make: Callable[[int], Any], steps: range, workers: int) -> Generator[Any]:
    yield from map(make, steps)


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_training_on_a_gpu_keeps_everything_there(
    optimizer: Optimizer, played: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = torch.rand(6, 2, 32, 32)  # whose loss averages out what bfloat16 rounds
    recipe = Recipe(
        channels=(8,), blocks=1, attention_levels=0, norm_groups=4, steps=3, batch_size=2,
        accumulate=2, warmup=0, optimizer=optimizer,
    )  # fmt: skip
    settings = PriorSettings(("T1", "FLAIR"), (32, 32))

    def losses(output: Path) -> list[float]:
        said: list[float] = []
        options = {"precision": "bfloat16", "report": lambda p: said.append(p.loss)}
        train(InMemory(slices), slices[:2], settings, recipe, output, **options)
        return said

    expected = losses(tmp_path / "cpu")
    monkeypatch.setattr("accelerate.Accelerator.device", GPU)
    # of which another thread would know nothing
    monkeypatch.setattr("any2all_core.training.ahead", in_turn)
    # which looks at the device's name for whether it has a fused kernel
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda p, lr, fused: adam(p, lr, foreach=True))
    assert losses(tmp_path / "gpu") == pytest.approx(expected, rel=1e-3)
    assert DiffusionPrior.load(tmp_path / "gpu").device.type == "cpu"


def test_unknown_device_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"device 'nonsense' can't be used .* use auto, cpu"):
        choose_device("nonsense")
    assert choose_device("cpu") == torch.device("cpu")
