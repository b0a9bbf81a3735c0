"""Weights from elsewhere: what cannot be imported is said, and a prior comes from the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from any2all_core.foreign_weights import import_prior
from any2all_operators import UserError
from builders.command_line import Run
from builders.imports import Original
from diffusers.models.unets.unet_2d import UNet2DModel

pytestmark = pytest.mark.slow


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
