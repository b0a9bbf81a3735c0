"""MONAI's DiffusionModelUNet as the network of a prior."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from any2all_operators import UserError
from torch import nn


@dataclass(frozen=True)
class Monai:
    """Weights of a two-dimensional DiffusionModelUNet without conditioning.

    config: JSON file of its arguments, such as a bundle's network_def.
    """

    config: str = ""

    @staticmethod
    def build(config: dict[str, Any]) -> nn.Module:
        """The network of a prior's config.json: (B, C, H, W) and times (B,) to (B, C, H, W)."""
        from monai.networks.nets import DiffusionModelUNet

        return DiffusionModelUNet(**config)

    def read(self, source: Path, channels: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Config and weights of a file of its state_dict()."""
        try:
            told = json.loads(Path(self.config).read_text())
            state = torch.load(source, weights_only=True, map_location="cpu")
        except Exception as error:
            raise UserError(
                f"{source}, config={self.config}: not readable ({error}); give the state_dict() "
                "and, with --set config=FILE, a JSON file of the network's arguments"
            ) from None
        told = told.get("network_def", told)
        config = {name: value for name, value in told.items() if not name.startswith("_")}
        entered, left = config.get("in_channels"), config.get("out_channels")
        if (config.get("spatial_dims"), entered, left) != (2, channels, channels):
            raise UserError(
                f"{self.config}: {config.get('spatial_dims')} dimensions, {entered} to {left} "
                f"images; expected 2 dimensions, {channels} to {channels}, the modalities"
            )
        return config, state
