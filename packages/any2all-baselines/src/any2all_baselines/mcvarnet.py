"""MC-VarNet: unrolled reconstruction with the features that guide and target share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from any2all_core.given import Guides, Scan
from any2all_core.method import MethodSettings, Question
from any2all_core.noise import Noise
from torch import Tensor, nn

from any2all_baselines.guided import Guided, GuidedNetwork, zero_filled
from any2all_baselines.images import padded
from any2all_baselines.losses import mean_over

LEVELS = 3
STEP = 0.1
EXPECTED_ERROR = 0.1
"""Initial value of the learnt error of the image before data consistency, in [0, 1] units."""


@dataclass(frozen=True)
class MCVarNet(Guided):
    """Unrolled reconstruction of a target x with the common part c of the guide y = c + u.

    The unique part u of the guide does not influence x. The network repeats ``iterations`` times

    x ← DC(x) − μ [γ D_x(E_x x − E_c c) + λ N_x x],
    c ← T_c(y − u + γ D_c E_x x + α P), u ← (y + β Q − c)/(1 + β), P ← N_c c, Q ← N_u u

    on ``features`` maps. All iterations share their networks. μ is 0.1 and the other weights are 1.
    The loss is |x̂ − x|, and the optimizer is Adam with betas 0.9 and 0.99.

    Source: Lei et al. 2023, *Decomposition-based variational network for multi-contrast MRI
    super-resolution and reconstruction*, ICCV. This implementation is written from a description,
    without the authors' code. It differs from the publication as follows:

    - It supports multiple coils. DC maps the features to one image by a convolution, applies the
      operator's prox argmin_u w/2 ‖A u − y‖² + ½ ‖u − x‖² with w = (r/noise_std)² and a learnt r,
      and adds the correction by another convolution. The convolutions are initialised as the mean
      and as its repetition. In the publication, DC replaces samples in each feature map.
    - It supports several guides. y is a 1 x 1 convolution of the guides and of planes that tell
      which are given; in the publication, y is the single guide, repeated.
    - Each example has its own mask, the learning rate falls linearly instead of as a cosine, and
      slices are augmented and used whole.
    - ``learn_weights`` makes μ, γ, λ, α and β trainable, which they are not in the public code.
    """

    decay: float = 1.0
    warmup: int = 0
    features: int = 24
    iterations: int = 4
    learn_weights: bool = False

    presets: ClassVar = {
        "small": {},
        "tiny": {"features": 6, "iterations": 2, "coils": 2},
        "paper": {"features": 32, "learning_rate": 1e-4, "batch_size": 6, "steps": 200_000},
    }

    def build(self, settings: MethodSettings) -> nn.Module:
        place, count = self.place(settings), len(settings.modalities)
        return Unrolled(
            place,
            count,
            features=self.features,
            iterations=self.iterations,
            learnt=self.learn_weights,
        )

    def optimizers(self, network: nn.Module) -> dict[str, torch.optim.Optimizer]:
        own = torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=(0.9, 0.99))
        return {"network": own}

    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        scan, guides, known = self.asked(network, question)
        errors = (network(scan, guides) - question.truth[:, scan.place]).abs()
        yield "network", mean_over(known, errors[:, None])

    def recover(self, network: Any, scan: Scan, guides: Guides, noise: Noise) -> Tensor:
        return network.in_place(network(scan, guides))


class Unrolled(GuidedNetwork):
    """The network: from a scan and guides to the target, (B, H, W) in [0, 1]."""

    def __init__(
        self, place: int, modalities: int, *, features: int, iterations: int, learnt: bool
    ) -> None:
        super().__init__(place, modalities)
        f = features
        self.features, self.iterations = features, iterations
        self.guide = nn.Conv2d(2 * len(self.others), f, 1)
        self.first_x, self.first_c = Denoiser(f), Denoiser(f)
        self.near_x, self.near_c, self.near_u = Denoiser(f), Denoiser(f), Denoiser(f)
        self.encode_x, self.decode_x = pair(f), pair(f)
        self.encode_c, self.decode_c = pair(f), pair(f)
        self.transfer = pair(f)
        self.to_image, self.from_image = at_centre(f, 1, 1 / f), at_centre(1, f, 1.0)
        self.log_error = nn.Parameter(torch.tensor(math.log(EXPECTED_ERROR)))
        self.last = nn.Conv2d(f, 1, 3, 1, 1)
        weights = torch.tensor([STEP, 1.0, 1.0, 1.0, 1.0])
        self.weights: Tensor
        if learnt:
            self.weights = nn.Parameter(weights)
        else:
            self.register_buffer("weights", weights)

    def forward(self, scan: Scan, guides: Guides) -> Tensor:
        mu, gamma, lambda_, alpha, beta = self.weights
        y = self.guide(self.guides(guides))
        x = self.first_x(zero_filled(scan)[:, None].expand(-1, self.features, -1, -1))
        c = self.first_c(y)
        u = y - c
        p, q = c, u
        for k in range(self.iterations):
            seen = self.encode_x(x)
            difference = self.decode_x(seen - self.encode_c(c))
            change = gamma * difference + lambda_ * self.near_x(x)
            x = self.consistent(scan, x) - mu * change
            if k < self.iterations - 1:
                c, before = self.transfer(y - u + gamma * self.decode_c(seen) + alpha * p), c
                u = (y + beta * q - before) / (1 + beta)
                p, q = self.near_c(c), self.near_u(u)
        return self.last(x)[:, 0]

    def consistent(self, scan: Scan, x: Tensor) -> Tensor:
        """Data consistency: correct feature maps (B, F, H, W) by the scan of their image."""
        image = self.to_image(x)[:, 0].float()
        correction = agreeing(scan, image, self.log_error.exp()) - image
        return x + self.from_image(correction[:, None])


class Denoiser(nn.Module):
    """A residual U-Net of three levels with the same number of maps at each level."""

    def __init__(self, features: int) -> None:
        super().__init__()
        f = features
        self.levels = nn.ModuleList(chain(f, f, 3) for _ in range(LEVELS))
        self.down = nn.ModuleList(nn.Conv2d(f, f, 3, 2, 1) for _ in range(LEVELS))
        self.up = nn.ModuleList(nn.ConvTranspose2d(f, f, 2, 2) for _ in range(LEVELS))
        self.joined = nn.ModuleList(chain(2 * f, f, 4) for _ in range(LEVELS))

    def forward(self, x: Tensor) -> Tensor:
        h, cut = padded(x, 2**LEVELS)
        maps = []
        for level, down in zip(self.levels, self.down, strict=True):
            maps.append(level(h))
            h = down(maps[-1])
        for up, joined in zip(self.up, self.joined, strict=True):
            h = joined(torch.cat([up(h), maps.pop()], 1))
        return x + cut(h)


def chain(inputs: int, features: int, count: int) -> nn.Sequential:
    """``count`` 3 x 3 convolutions with PReLU between them."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, features, 3, 1, 1)]
    for _ in range(count - 1):
        layers += [nn.PReLU(), nn.Conv2d(features, features, 3, 1, 1)]
    return nn.Sequential(*layers)


def pair(features: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(features, features, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(features, features, 3, 1, 1),
    )


@torch.no_grad()
def at_centre(inputs: int, outputs: int, value: float) -> nn.Conv2d:
    """A 3 x 3 convolution, initialised as ``value`` times the sum of its inputs."""
    convolution = nn.Conv2d(inputs, outputs, 3, 1, 1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    convolution.weight[:, :, 1, 1] = value
    return convolution


def agreeing(scan: Scan, image: Tensor, error: Tensor) -> Tensor:
    """argmin_u w/2 ‖A u − y‖² + ½ ‖u − image‖² with w = (error/noise_std)².

    It is differentiable in ``image`` and ``error``. For a noise-free scan, the result is the image
    nearest to ``image`` that fits the data.
    """
    noise_std = scan.operator.noise_std
    weight = (error / noise_std) ** 2 if noise_std else error.new_tensor(math.inf)
    found: Tensor = _Prox.apply(image, weight, scan)  # type: ignore[no-untyped-call]
    return found


class _Prox(torch.autograd.Function):
    """u = (w A*A + 1)⁻¹ (w A* y + v), whose derivatives need only the same inverse.

    With N = A*A and g = ∂L/∂u: ∂L/∂v = (w N + 1)⁻¹ g, ∂L/∂w = ⟨(w N + 1)⁻¹ g, A* y − N u⟩.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, scan: Scan) -> Tensor:
        ctx.weight, ctx.scan = float(weight), scan
        u = scan.operator.prox(scan.data, image, ctx.weight)
        ctx.save_for_backward(u)
        return u

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (u,) = ctx.saved_tensors
        operator, data = ctx.scan.operator, ctx.scan.data
        back = operator.prox(torch.zeros_like(data), gradient[0], ctx.weight)
        slope = back.new_zeros(())
        if math.isfinite(ctx.weight):
            slope = (back * (operator.adjoint(data) - operator.normal(u))).sum()
        return back, slope, None
