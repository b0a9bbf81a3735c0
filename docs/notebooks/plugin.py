# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A plugin
#
# A forward model of your own is a class with two methods. The example is a detector that has lost
# columns of its image. A sampler of your own follows. [Write a
# plugin](../write-a-plugin.md) makes a package of such a class, so that the command line knows it
# by name.
#
# ## An operator
#
# `forward` is A of y = A x + n, and `adjoint` its transpose. The fields are the options.

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
from any2all_operators import Operator, UserError, check_operator


@dataclass(frozen=True)
class Stripes(Operator):
    """Every n-th column of the image is lost."""

    every: int = 3
    noise_std: float = 0.01

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, H, W) to (B, H, W)."""
        kept = torch.arange(image.shape[2]) % self.every > 0
        return image * kept

    def adjoint(self, data: torch.Tensor) -> torch.Tensor:
        """The columns that are kept; 0 where they are lost."""
        return self.forward(data)


check_operator(Stripes(), (32, 32))

# %% [markdown]
# `check_operator` returns relative errors, which are all close to 0. It tests that `adjoint` is
# the transpose of `forward`, that A is linear, and that `prox` is the minimiser. A wrong
# transpose is named:


# %%
@dataclass(frozen=True)
class Wrong(Stripes):
    """Forgets which columns are lost."""

    def adjoint(self, data: torch.Tensor) -> torch.Tensor:
        """Not the transpose."""
        return data


try:
    check_operator(Wrong(), (32, 32))
except (AssertionError, UserError) as error:
    print(error)

# %% [markdown]
# ## Use it
#
# T1 is given, and FLAIR is measured with the broken detector. `simulate` computes y from known
# images, with noise.

# %%
from any2all_core import load_prior, reconstruct, simulate
from any2all_data import read_patient, to_stack
from any2all_demo import virtual
from any2all_operators import BlockDiagonal, Identity

prior = load_prior("virtual")
truth = to_stack(read_patient(virtual.example, prior.modalities, prior.format))[5:6]
A = BlockDiagonal({"T1": Identity(), "FLAIR": Stripes(every=2)})  # truth: (1, 5, 112, 96)
y = simulate(A, truth[:, :2])
stack = reconstruct(prior, A, y)  # (1, 1, 5, 112, 96)

figure, axes = plt.subplots(1, 3, figsize=(8, 3.3), layout="constrained")
pictures = {"measured": y["FLAIR"][0], "restored": stack[0, 0, 1], "truth": truth[0, 1]}
for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, "gray", vmin=0, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])

# %% [markdown]
# ## A sampler
#
# A sampler is a dataclass with `steps` and `__call__`. This one is Euler's method on the
# probability-flow equation, with the data brought in by `prox`. `noise()` draws (B, M, H, W), the
# same for the same seed, slice and draw.

# %%
import math

from any2all_core import Noise, Prior
from any2all_core.sampler import Step
from any2all_operators import Measurement


@dataclass(frozen=True)
class Euler:
    """x̂_0 is replaced by the prox of the data with one ``weight``."""

    steps: int = 20
    weight: float = 50.0

    @torch.no_grad()
    def __call__(
        self, prior: Prior, measurement: Measurement, noise: Noise, progress: Step | None = None
    ) -> torch.Tensor:
        """(B, M, H, W) in [0, 1]."""
        times = prior.schedule.timesteps(self.steps, "sigma")
        alpha_bars = prior.schedule.alpha_bar[times].tolist()
        operators = measurement.operator.operators
        weights = {m: self.weight if op.noise_std else math.inf for m, op in operators.items()}
        prox = measurement.operator.prox_of(measurement.data)
        x = noise()
        for t, a, a_next in zip(times, alpha_bars, [*alpha_bars[1:], 1.0], strict=True):
            u = (prior.denoise(x, t).clamp(-1, 1) + 1) / 2  # the network's [−1, 1] to [0, 1]
            x_0 = 2 * prox(u, weights) - 1
            eps = (x - a**0.5 * x_0) / (1 - a) ** 0.5
            x = a_next**0.5 * x_0 + (1 - a_next) ** 0.5 * eps
            if progress:
                progress()
        return ((x + 1) / 2).clamp(0, 1)


restored = reconstruct(prior, A, y, Euler(steps=10))
for name, images in {"mds": stack, "euler": restored}.items():
    mse = (images[0, 0, 1] - truth[0, 1]).square().mean()
    print(f"FLAIR by {name}: {-10 * math.log10(mse):.1f} dB")

# %% [markdown]
# `any2all_core.check_sampler` tests a sampler on a prior that is known in closed form. It counts
# the network calls, requires the same result in another batch, and checks that a missing image
# depends on the given one.

# %%
from any2all_core import check_sampler

check_sampler(Euler())
