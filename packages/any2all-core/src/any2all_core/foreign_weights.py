"""Import of weights that were trained with other software."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from any2all_operators import UserError

from any2all_core.guided_diffusion import Heads, convert
from any2all_core.options import parse_options
from any2all_core.prior import DiffusionPrior, build_network
from any2all_core.prior_settings import Prediction, PriorSettings, read_json
from any2all_core.registry import list_plugins, make_plugin
from any2all_core.schedule import Kind
from any2all_core.stack_format import StackFormat

KINDS = ("guided-diffusion", "diffusers")
PREDICTIONS: Mapping[str, Prediction] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "sample",
}
"""Predictions by their names in a diffusers scheduler."""
SCHEDULES: Mapping[str, Kind] = {"linear": "linear", "squaredcos_cap_v2": "cosine"}


@dataclass(frozen=True)
class TrainedAs:
    """How the weights were trained. A field that is None is read from their source.

    ``image_size`` is (H, W) in pixels.
    """

    image_size: tuple[int, int] | None = None
    prediction: Prediction | None = None
    schedule: Kind | None = None
    diffusion_steps: int = 1000


AS_THE_SOURCE_SAYS = TrainedAs()


def import_prior(
    kind: str,
    source: Path,
    modalities: Sequence[str],
    trained_as: TrainedAs = AS_THE_SOURCE_SAYS,
    *,
    options: Mapping[str, str] | None = None,
) -> DiffusionPrior:
    """Import foreign weights as a float32 prior that computes the same as their network.

    ``kind`` is one of these:

    - ``guided-diffusion``: a file of U-Net weights (read with weights_only), with ``options`` as in
      :class:`Heads`. The weights do not contain their schedule, so it must be given.
    - ``diffusers``: the folder of a ``UNet2DModel``, or of a pipeline with one
    - the name of a plugin of the group ``any2all.networks``, with its own options

    By default, prediction and schedule are those of the pipeline's scheduler, or else epsilon and
    cosine. Images enter the network in [−1, 1], as in both libraries. Raises UserError that names
    the file.
    """
    prediction, schedule = trained_as.prediction, trained_as.schedule
    others = tuple(plugin.name for plugin in list_plugins("any2all.networks"))
    for given, known in (
        (kind, KINDS + others),
        (prediction, get_args(Prediction)),
        (schedule, get_args(Kind)),
    ):
        if given is not None and given not in known:
            raise UserError(f"{given}: unknown; there are {', '.join(known)}")
    if kind == "guided-diffusion":
        heads = Heads(**parse_options(Heads, dict(options or {}), kind))
        config, state = convert(_read_weights(source), len(modalities), heads)
        if schedule is None:
            raise UserError(
                f"{source}: does not say what schedule it was trained with; give --schedule cosine "
                "or linear"
            )
        said: dict[str, Any] = {}
    elif kind in others:
        network = make_plugin("any2all.networks", kind, dict(options or {}))
        config, state = network.read(source, len(modalities))
        said = {"network": kind}
    else:
        if options:
            raise UserError(f"--set {next(iter(options))}: a diffusers folder has no options")
        config, state, said = _read_diffusers(source, len(modalities))
    size = trained_as.image_size or said.pop("image_size", None)
    said.pop("image_size", None)
    if size is None:
        raise UserError(f"{source}: does not say the size of its images; give --image-size")
    said |= {"prediction": prediction} if prediction else {}
    said |= {"schedule": schedule} if schedule else {}
    settings = PriorSettings(
        StackFormat.of_names(modalities, size),
        patch=1,
        training={"imported": kind},
        **{"prediction": "epsilon", "diffusion_steps": trained_as.diffusion_steps, **said},
    )
    return _built(config, state, settings, source)


def _built(
    config: Mapping[str, Any], state: Mapping[str, Any], settings: PriorSettings, source: Path
) -> DiffusionPrior:
    own = settings.network != "diffusers"
    whole = config if own else {**config, "sample_size": list(settings.image_size)}
    try:
        unet = build_network(settings.network, whole)
        unet.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"{source}: its weights are of another network ({str(error).splitlines()[0]})"
        ) from None
    return DiffusionPrior(unet, settings, config if own else None).eval().requires_grad_(False)


def _close(given: tuple[Any, ...], wanted: tuple[float, ...]) -> bool:
    return all(
        isinstance(a, int | float) and math.isclose(a, b, rel_tol=1e-6)
        for a, b in zip(given, wanted, strict=True)
    )


def _read_weights(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the weights of a U-Net")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # pickle and torch raise many kinds
        raise UserError(
            f"{path}: not read as weights alone ({type(error).__name__}); save its state_dict()"
        ) from None
    return state if isinstance(state, dict) else {}


def _read_diffusers(
    folder: Path, channels: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Config, weights, and the settings from a pipeline's scheduler."""
    inner = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (inner / "config.json").exists():
        raise UserError(f"{folder}: no config.json; expected the folder of a UNet2DModel")
    config = read_json(inner / "config.json")
    enters, leaves = config.get("in_channels"), config.get("out_channels")
    if config.get("_class_name") != "UNet2DModel" or (enters, leaves) != (channels, channels):
        raise UserError(
            f"{inner}: a {config.get('_class_name')} of {enters} to {leaves} images; expected a "
            f"UNet2DModel of {channels} to {channels}, the modalities"
        )
    weights = inner / "diffusion_pytorch_model.safetensors"
    if weights.exists():
        from safetensors.torch import load_file

        state = load_file(weights)
    else:
        state = _read_weights(inner / "diffusion_pytorch_model.bin")
    said: dict[str, Any] = {}
    if size := config.get("sample_size"):
        said["image_size"] = (size, size) if isinstance(size, int) else tuple(size)
    path = folder / "scheduler/scheduler_config.json"
    if path.exists():
        scheduler = read_json(path)
        kind = str(scheduler.get("beta_schedule"))
        ends = (scheduler.get("beta_start"), scheduler.get("beta_end"))
        steps = scheduler.get("num_train_timesteps", 1000)
        wanted = (0.1 / steps, 20 / steps)
        changed = [n for n in ("trained_betas", "rescale_betas_zero_snr") if scheduler.get(n)]
        if kind not in SCHEDULES or changed or (kind == "linear" and not _close(ends, wanted)):
            raise UserError(
                f"{path}: beta_schedule {' '.join([kind, *changed])} from {ends[0]} to {ends[1]} "
                f"in {steps} steps; expected squaredcos_cap_v2, or linear from {wanted[0]:g} to "
                f"{wanted[1]:g}"
            )
        predicts = scheduler.get("prediction_type", "epsilon")
        if predicts not in PREDICTIONS:
            raise UserError(
                f"{path}: prediction_type {predicts}; expected {', '.join(PREDICTIONS)}"
            )
        said |= {
            "schedule": SCHEDULES[kind],
            "prediction": PREDICTIONS[predicts],
            "diffusion_steps": steps,
        }
    return config, state, said
