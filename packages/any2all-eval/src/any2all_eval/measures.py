"""What is measured beside what always is, and what could not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from any2all_operators import UserError

from any2all_eval.metrics import Perceptual, SetDistance, fid, lpips
from any2all_eval.perception import NETWORK, load_perception


@dataclass(frozen=True)
class Measures:
    """pairs: of slices and their truth; sets: of draws from nothing; names: of the networks used.

    left_out: why others are not measured and how to have them, a sentence each.
    """

    pairs: Sequence[Perceptual] = ()
    sets: Sequence[SetDistance] = ()
    names: Sequence[str] = ()
    left_out: Sequence[str] = ()


def load_measures(with_lpips: bool, inception: Path | None) -> Measures:
    """EfficientNet's distances where they are installed; LPIPS and FID where they are asked for.

    Raises UserError where ``inception`` cannot be used.
    """
    pairs: list[Perceptual] = []
    sets: list[SetDistance] = [] if inception is None else [fid(inception)]
    names, left_out = [], []
    try:
        network = load_perception()
        pairs.append(network.compare)
        sets.append(network.between)
        names.append(NETWORK)
    except UserError as error:
        left_out.append(str(error))
    if with_lpips:
        try:
            pairs.append(lpips())
            names.append("LPIPS")
        except UserError as error:
            left_out.append(str(error))
    return Measures(pairs, sets, names, left_out)
