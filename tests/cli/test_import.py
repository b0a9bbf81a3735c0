"""Weights from elsewhere: the prior computes what the network that they come from did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from any2all_core import DiffusionPrior
from builders.command_line import Run
from builders.imports import Original
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

pytestmark = pytest.mark.slow
ORIGINALS: dict[str, dict[str, Any]] = {
    "plain": {"levels": ((32, False), (64, True))},
    "learned variance, scale and shift": {
        "levels": ((32, False), (64, True), (64, True)),
        "learn_sigma": True,
        "scale_shift": True,
        "blocks": 2,
    },
    "resampling residual blocks": {
        "levels": ((64, False), (64, True), (96, False)),
        "updown": True,
        "scale_shift": True,
        "learn_sigma": True,
        "blocks": 2,
        "head": 32,
    },
    "resampling, attention everywhere, new order": {
        "levels": ((32, True), (64, True)),
        "updown": True,
        "new_order": True,
        "blocks": 3,
    },
    "no attention but in the middle": {"levels": ((32, False), (32, False), (64, False))},
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_guided_diffusion_gives_equal_outputs(name: str, any2all: Run, tmp_path: Path) -> None:
    options = {"head": 16, **ORIGINALS[name]}
    original = Original(channels=3, **options)
    torch.save(original.state, tmp_path / "model.pt")
    settings = [f"num_head_channels={options['head']}"]
    if options.get("new_order"):
        settings.append("use_new_attention_order=true")
    done = any2all(
        *("import", "guided-diffusion", "model.pt", "--output", "prior", "--image-size", "32,32"),
        *("--modalities", "T1,FLAIR,CT", "--schedule", "linear"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert done.returncode == 0, done.stderr
    prior = DiffusionPrior.load(tmp_path / "prior", "float32")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3, 900])
    expected = original(x, t)[:, :3]
    assert expected.std() > 0.1
    assert torch.allclose(prior.predict(x, t), expected, atol=1e-4)
    assert prior.settings.prediction == "epsilon"
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    assert torch.allclose(prior.schedule.alpha_bar, (1 - beta).cumprod(0))


def test_a_diffusers_folder_gives_equal_outputs(any2all: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=32,
        in_channels=2,
        out_channels=2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "pipeline")
    unet.save_pretrained(tmp_path / "unet", safe_serialization=False)  # a .bin, and no scheduler
    names = ("--modalities", "T1,CT")
    for source, options in {"pipeline": (), "unet": ("--prediction", "v")}.items():
        done = any2all(
            "import", "diffusers", source, "--output", f"{source}-prior", *names, *options
        )
        assert done.returncode == 0, done.stderr
        prior = DiffusionPrior.load(tmp_path / f"{source}-prior", "float32")
        x, t = torch.randn(2, 2, 32, 32), torch.tensor([3, 900])
        assert torch.allclose(prior.predict(x, t), unet(x, t).sample, atol=1e-5)
        assert prior.settings.prediction == "v"
        assert prior.settings.image_size == (32, 32)
        assert torch.allclose(
            prior.schedule.alpha_bar, scheduler.alphas_cumprod.double(), atol=1e-6
        )
