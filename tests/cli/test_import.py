"""Weights from elsewhere: the prior computes what the network that they come from did."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from any2all_core import DiffusionPrior
from any2all_core.foreign_weights import import_prior
from any2all_operators import UserError
from builders.command_line import Run
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

pytestmark = pytest.mark.slow

State = dict[str, Tensor]


class Original:
    """A U-Net of guided-diffusion with random weights, by its own names and its own arithmetic.

    Written from the description in its paper and code; ``levels``: (width, attention) of each.
    """

    def __init__(
        self,
        channels: int,
        levels: tuple[tuple[int, bool], ...],
        blocks: int = 1,
        head: int = 16,
        learn_sigma: bool = False,
        scale_shift: bool = False,
        updown: bool = False,
        new_order: bool = False,
    ) -> None:
        self.levels, self.blocks, self.head = levels, blocks, head
        self.scale_shift, self.updown, self.new_order = scale_shift, updown, new_order
        self.state: State = {}
        self.random = torch.Generator().manual_seed(0)
        base = levels[0][0]
        self.add("time_embed.0", 4 * base, base)
        self.add("time_embed.2", 4 * base, 4 * base)
        self.add("input_blocks.0.0", base, channels, 3, 3)
        width, kept, k = base, [base], 1
        for level, (own, attends) in enumerate(levels):
            for _ in range(blocks):
                self.add_block(f"input_blocks.{k}.0", width, own, base)
                width = own
                if attends:
                    self.add_attention(f"input_blocks.{k}.1", width)
                kept.append(width)
                k += 1
            if level < len(levels) - 1:
                if updown:
                    self.add_block(f"input_blocks.{k}.0", width, width, base)
                else:
                    self.add(f"input_blocks.{k}.0.op", width, width, 3, 3)
                kept.append(width)
                k += 1
        self.add_block("middle_block.0", width, width, base)
        self.add_attention("middle_block.1", width)
        self.add_block("middle_block.2", width, width, base)
        k = 0
        for level, (own, attends) in reversed(list(enumerate(levels))):
            for place in range(blocks + 1):
                self.add_block(f"output_blocks.{k}.0", width + kept.pop(), own, base)
                width, last = own, 1
                if attends:
                    self.add_attention(f"output_blocks.{k}.1", width)
                    last = 2
                if level and place == blocks:
                    if updown:
                        self.add_block(f"output_blocks.{k}.{last}", width, width, base)
                    else:
                        self.add(f"output_blocks.{k}.{last}.conv", width, width, 3, 3)
                k += 1
        self.add("out.0", width)
        self.add("out.2", channels * (1 + learn_sigma), width, 3, 3)

    def draw(self, *shape: int) -> Tensor:
        fan = math.prod(shape[1:]) or 1
        return torch.randn(shape, generator=self.random) / fan**0.5

    def add(self, name: str, *shape: int) -> None:
        self.state[f"{name}.weight"] = self.draw(*shape)
        self.state[f"{name}.bias"] = 0.3 * self.draw(shape[0])

    def add_block(self, name: str, enters: int, leaves: int, base: int) -> None:
        self.add(f"{name}.in_layers.0", enters)
        self.add(f"{name}.in_layers.2", leaves, enters, 3, 3)
        self.add(f"{name}.emb_layers.1", leaves * (1 + self.scale_shift), 4 * base)
        self.add(f"{name}.out_layers.0", leaves)
        self.add(f"{name}.out_layers.3", leaves, leaves, 3, 3)
        if enters != leaves:
            self.add(f"{name}.skip_connection", leaves, enters, 1, 1)

    def add_attention(self, name: str, width: int) -> None:
        self.add(f"{name}.norm", width)
        self.add(f"{name}.qkv", 3 * width, width, 1)
        self.add(f"{name}.proj_out", width, width, 1)

    def both(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, *self.both(name))

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self.both(name)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def block(self, name: str, x: Tensor, emb: Tensor, resample: str = "") -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif resample == "up":
            h, x = (F.interpolate(a, scale_factor=2, mode="nearest") for a in (h, x))
        h = self.conv(f"{name}.in_layers.2", h)
        said = F.linear(F.silu(emb), *self.both(f"{name}.emb_layers.1"))[..., None, None]
        if self.scale_shift:
            scale, shift = said.chunk(2, 1)
            h = self.norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = self.norm(f"{name}.out_layers.0", h + said)
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        skip = f"{name}.skip_connection"
        return h + (self.conv(skip, x) if f"{skip}.weight" in self.state else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        batch, width, *size = x.shape
        heads, flat = width // self.head, x.reshape(batch, width, -1)
        qkv = F.conv1d(self.norm(f"{name}.norm", flat), *self.both(f"{name}.qkv"))
        if self.new_order:
            q, k, v = (a.reshape(batch, heads, self.head, -1) for a in qkv.chunk(3, 1))
        else:
            q, k, v = qkv.reshape(batch, heads, 3 * self.head, -1).split(self.head, 2)
        weight = (q.transpose(2, 3) @ k / self.head**0.5).softmax(-1)
        h = (v @ weight.transpose(2, 3)).reshape(batch, width, -1)
        return (flat + F.conv1d(h, *self.both(f"{name}.proj_out"))).reshape(batch, width, *size)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.levels[0][0] // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = torch.cat([angles.cos(), angles.sin()], 1)
        emb = F.silu(F.linear(emb, *self.both("time_embed.0")))
        emb = F.linear(emb, *self.both("time_embed.2"))
        h = self.conv("input_blocks.0.0", x)
        kept, k = [h], 1
        for level, (_, attends) in enumerate(self.levels):
            for _ in range(self.blocks):
                h = self.block(f"input_blocks.{k}.0", h, emb)
                h = self.attention(f"input_blocks.{k}.1", h) if attends else h
                kept.append(h)
                k += 1
            if level < len(self.levels) - 1:
                name = f"input_blocks.{k}.0"
                down = self.block(name, h, emb, "down") if self.updown else None
                h = self.conv(f"{name}.op", h, 2) if down is None else down
                kept.append(h)
                k += 1
        h = self.block("middle_block.0", h, emb)
        h = self.block("middle_block.2", self.attention("middle_block.1", h), emb)
        k = 0
        for level, (_, attends) in reversed(list(enumerate(self.levels))):
            for place in range(self.blocks + 1):
                h = self.block(f"output_blocks.{k}.0", torch.cat([h, kept.pop()], 1), emb)
                h = self.attention(f"output_blocks.{k}.1", h) if attends else h
                if level and place == self.blocks:
                    name = f"output_blocks.{k}.{1 + attends}"
                    if self.updown:
                        h = self.block(name, h, emb, "up")
                    else:
                        large = F.interpolate(h, scale_factor=2, mode="nearest")
                        h = self.conv(f"{name}.conv", large)
                k += 1
        return self.conv("out.2", F.silu(self.norm("out.0", h)))


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


def test_what_can_not_be_imported_is_told(any2all: Run, tmp_path: Path) -> None:
    original = Original(channels=3, levels=((32, False), (64, True)))
    torch.save(original.state, tmp_path / "model.pt")
    torch.save({"model": [1, 2]}, tmp_path / "other.pt")
    torch.save(original, tmp_path / "pickled.pt")
    classes = original.state | {"label_emb.weight": torch.zeros(10, 128)}
    torch.save(classes, tmp_path / "classes.pt")
    (tmp_path / "empty").mkdir()
    head = ("--set", "num_head_channels=16")
    common = ("--output", "prior", "--image-size", "32,32", "--modalities")
    for arguments, said in {
        ("guided-diffusion", "model.pt", *common, "T1,CT", *head): "takes 3 images and gives 3",
        (
            "guided-diffusion",
            "model.pt",
            *common,
            "T1,CT,PET",
        ): "give num_head_channels or num_heads",
        ("guided-diffusion", "model.pt", *common, "T1,CT,PET", *head): "give --schedule cosine or",
        ("guided-diffusion", "classes.pt", *common, "T1,CT,PET", *head): "trained with classes",
        (
            "guided-diffusion",
            "other.pt",
            *common,
            "T1,CT,PET",
            *head,
        ): "no U-Net of guided-diffusion",
        (
            "guided-diffusion",
            "pickled.pt",
            *common,
            "T1,CT,PET",
            *head,
        ): "not read as weights alone",
        ("guided-diffusion", "none.pt", *common, "T1,CT,PET", *head): "none.pt: no such file",
        ("guided-diffusion", "model.pt", *common, "T1,CT,PET", "--set", "heads=4"): "heads",
        ("diffusers", "empty", *common, "T1,CT"): "no config.json",
        (
            "keras",
            "empty",
            *common,
            "T1,CT",
        ): "keras: unknown; there are guided-diffusion, diffusers",
    }.items():
        done = any2all("import", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
        assert not (tmp_path / "prior").exists()


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"beta_schedule": "linear", "num_train_timesteps": 4000}, "linear from 2.5e-05 to 0.005"),
        ({"beta_schedule": "linear", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"beta_schedule": "scaled_linear"}, "beta_schedule scaled_linear"),
        ({"beta_schedule": "linear", "prediction_type": "flow"}, "prediction_type flow"),
    ],
)
def test_a_schedule_that_is_none_of_ours_is_refused(
    tmp_path: Path, scheduler: dict[str, object], said: str
) -> None:
    unet = UNet2DModel(
        sample_size=32,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    unet.save_pretrained(tmp_path / "unet")
    (tmp_path / "scheduler").mkdir()
    whole = {"beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000, **scheduler}
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match=said):
        import_prior("diffusers", tmp_path, ("T1",))


def test_a_prior_of_the_hub(
    process: Run, prior_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a local mirror of the Hub's cache, without a network."""
    cache = tmp_path / "hub/models--lab--brains"
    (cache / "snapshots").mkdir(parents=True)
    shutil.copytree(prior_folder, cache / "snapshots/0123abcd")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("0123abcd")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = ("sample", "--sampler", "ddpm", "--set", "steps=2", "--output", "out", "--prior")
    done = process(*command, "hf:lab/brains")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/draw_000/T1.nii.gz").exists()
    done = process(*command[:-2], "no", "--prior", "hf:lab/lungs")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "hf:lab/lungs: not fetched" in done.stderr
