"""A GPU that is played by the CPU: tensors that say they lie on one, and refuse to meet others."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("meta")


class OnGPU(Tensor):
    """A tensor that says it lies on a GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGPU":
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=GPU
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch leaves its own untyped
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
    mode: Any = Playing
    with mode():
        yield
    torch.__future__.set_swap_module_params_on_conversion(False)
