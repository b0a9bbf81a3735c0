"""``any2all sample``: a patient's files in, whole stacks out."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_core.options import option_fields
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import (
    bundled_prior,
    complete,
    make_sampler,
    prior_folder,
    reconstruct,
    simulate,
)
from any2all_core.registry import GROUPS, list_plugins, make_plugin
from any2all_core.sampler import Sampler
from any2all_data.cohort import covered
from any2all_data.metrics import psnr, ssim
from any2all_data.patient import (
    Volume,
    modality_path,
    read_patient,
    to_stack,
    write_slices,
    write_volume,
)
from any2all_operators import BlockDiagonal, Identity, Measurement, Operator, UserError, Zero
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from any2all_cli.output import finished_folder
from any2all_cli.parsing import ModalitySpec, modality_specs, name_values
from any2all_cli.preview import contact_sheet, preview

DEFAULT_PRIOR = "lgg"
LEAST_SQUARES_WEIGHT = 100.0
"""Of the answer without a prior: argmin 100 ‖A x − y‖² + ‖x‖², for k-space CG-SENSE."""
NO_PLACE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""The affine of an image that was never in a scanner: 1 mm, axes (L, P, S)."""
PACKAGES = ("core", "operators", "samplers", "data", "cli")


@dataclass(frozen=True)
class Built:
    """An operator with the plugin's name and the options it was made of."""

    name: str
    options: dict[str, Any]
    operator: Operator


@dataclass(frozen=True)
class Known:
    """What is known of a patient's slices.

    ``source``: {modality: "measured", "simulated from the truth" or "missing"};
    ``built``: the operators as named on the command line;
    ``truth``: {modality: (B, H, W) in [0, 1]} where a file says so.
    """

    volumes: dict[str, Volume]
    slice_ids: range
    operator: BlockDiagonal
    data: dict[str, Tensor]
    source: dict[str, str]
    built: dict[str, Built]
    truth: dict[str, Tensor]
    note: str


def run(
    prior_name: str | None,
    input_: Path | None,
    modalities: str | None,
    sampler_name: str,
    settings: list[str],
    output: Path | None,
    draws: int,
    seed: int,
    slices: str | None,
    simulated: bool,
    batch_size: int,
    precision: str,
) -> None:
    """Check everything that can be checked, then sample, then write the output folder at once."""
    if draws < 1 or batch_size < 1:
        raise UserError(f"--draws {draws}, --batch-size {batch_size}: expected at least 1")
    specs = modality_specs(modalities) if modalities else []
    if not specs and (input_ or slices or simulated):
        raise UserError("--input, --slices and --simulate need --modalities: say what is known")
    sampler = make_sampler(sampler_name, name_values(settings, "--set"))
    console = Console(stderr=True)
    with finished_folder(output) as folder:
        name = prior_name or DEFAULT_PRIOR
        path = prior_folder(name)
        prior = DiffusionPrior.load(path, precision)
        known = _read(prior, name, input_, specs, simulated, slices, seed) if specs else None
        started = time.perf_counter()
        results = _sample(prior, sampler, known, draws, seed, batch_size, console)
        seconds = time.perf_counter() - started
        report: dict[str, Any] = {
            "command": shlex.join(["any2all", *sys.argv[1:]]),
            "versions": _versions(),
            "prior": {"name": str(name), "sha256": weights_hash(path)},
            "sampler": {"name": sampler_name, **vars(sampler)},
            "seed": seed,
            "draws": draws,
            "network_calls": sampler.steps,
            "seconds": round(seconds, 2),
            "not_for_clinical_use": True,
        }
        if known is None:
            _write_draws(folder.path, prior, results[:, 0])
        else:
            report |= _judge(prior, known, results, draws)
            _write_patient(folder.path, prior, known, results)
        (folder.path / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _tell(console, report, folder.final, known)


def _versions() -> dict[str, str]:
    """Of our packages, of every package that registers a plugin, of torch and of Python."""
    plugins = [plugin for group in GROUPS for plugin in list_plugins(group)]
    ours = {f"any2all-{name}": version(f"any2all-{name}") for name in PACKAGES}
    theirs = {plugin.distribution: plugin.version for plugin in plugins}
    return ours | theirs | {"torch": torch.__version__, "python": platform.python_version()}


def _read(
    prior: DiffusionPrior,
    prior_name: str,
    input_: Path | None,
    specs: list[ModalitySpec],
    simulated: bool,
    slices: str | None,
    seed: int,
) -> Known:
    """The patient's volumes and the measurement that the specs make of them."""
    note = ""
    if input_ is None:
        if Path(prior_name).is_dir():
            raise UserError("--modalities without --input: give the patient's folder")
        bundled = bundled_prior(prior_name)
        if bundled.example is None:
            raise UserError(f"prior {prior_name} has no example patient; give --input FOLDER")
        input_, note = bundled.example, bundled.example_note
    if not input_.is_dir():
        raise UserError(f"--input {input_}: no such folder; expected <patient>/<modality>.nii.gz")
    height, width = prior.settings.image_size
    built = {spec.modality: build_operator(spec, height, width) for spec in specs}
    operator = complete(BlockDiagonal({m: b.operator for m, b in built.items()}), prior)
    needed = [m for m in prior.modalities if not isinstance(operator.operators[m], Zero)]
    there = [m for m in prior.modalities if m in needed or modality_path(input_, m)]
    if not there:
        raise UserError(f"{input_}: no file of {', '.join(prior.modalities)}; nothing to go by")
    volumes = read_patient(input_, there)
    stack = to_stack(volumes)
    if tuple(stack.shape[2:]) != (height, width):
        raise UserError(
            f"{input_}: slices of {stack.shape[2]} x {stack.shape[3]}, but the prior was trained "
            f"on {height} x {width}; resample them, or train a prior at that size"
        )
    ids = parse_slices(slices, len(stack))
    stack = stack[ids.start : ids.stop]
    images = {m: stack[:, k] for k, m in enumerate(there)}
    full = torch.stack([images.get(m, torch.zeros_like(stack[:, 0])) for m in prior.modalities], 1)
    data = simulate(operator, full, seed, ids)
    source, truth = {}, dict(images)
    for m, block in operator.operators.items():
        if m not in needed:
            source[m] = "missing"
        elif _is_image(block, images[m]) and not simulated:
            source[m] = "measured"
            data[m] = images[m]
            del truth[m]
        else:
            source[m] = "simulated from the truth"
    return Known(volumes, ids, operator, data, source, built, truth, note)


def build_operator(spec: ModalitySpec, height: int, width: int) -> Built:
    """The operator a spec names, for images (H, W).

    A registered class is an operator itself, or a recipe whose ``build(height, width)`` gives one.
    """
    made = make_plugin("any2all.operators", spec.operator, spec.options)
    options = {name: getattr(made, name) for name in option_fields(type(made))}
    return Built(
        spec.operator, options, made.build(height, width) if hasattr(made, "build") else made
    )


def parse_slices(text: str | None, count: int) -> range:
    """``"10:14"`` as range(10, 14), all of them for None; UserError unless within 0 ... count."""
    if text is None:
        return range(count)
    first, colon, last = text.partition(":")
    try:
        chosen = range(int(first or 0), int(last or count) if colon else int(first) + 1)
    except ValueError:
        chosen = range(0)
    if not (len(chosen) and chosen.start >= 0 and chosen.stop <= count):
        raise UserError(
            f"--slices {text}: expected FIRST:LAST within 0:{count} (LAST not included)"
        )
    return chosen


def _is_image(operator: Operator, image: Tensor) -> bool:
    """Whether an image file can be this operator's measurement as it is."""
    data = operator.forward(image[:1])
    return data.shape == image[:1].shape and not data.is_complex()


def _sample(
    prior: DiffusionPrior,
    sampler: Sampler,
    known: Known | None,
    draws: int,
    seed: int,
    batch_size: int,
    console: Console,
) -> Tensor:
    count = draws * (len(known.slice_ids) if known else 1)
    columns = (
        TextColumn("sampling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("network calls"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sampler.steps * -(-count // batch_size))
        options: dict[str, Any] = {
            "seed": seed,
            "draws": draws,
            "batch_size": batch_size,
            "progress": lambda: bar.advance(task),
        }
        if known is None:
            shape = (1, *prior.settings.image_size)
            return reconstruct(prior, BlockDiagonal({}), {}, sampler, shape=shape, **options)
        return reconstruct(
            prior, known.operator, known.data, sampler, slice_ids=known.slice_ids, **options
        )


def _judge(prior: DiffusionPrior, known: Known, results: Tensor, draws: int) -> dict[str, Any]:
    """What the report says of each modality."""
    mean = results.mean(0)
    measurement = Measurement(known.operator, known.data)
    residuals = measurement.residual(mean)
    judged: dict[str, Any] = {}
    for m, (name, operator) in enumerate(known.operator.operators.items()):
        data = known.data[name]
        entry: dict[str, Any] = {
            "operator": known.built[name].name if name in known.built else "missing",
            "options": known.built[name].options if name in known.built else {},
            "source": known.source[name],
            "unit": "as in its file" if name in known.volumes else "normalised",
        }
        if hasattr(operator, "acceleration"):
            entry["effective_acceleration"] = round(operator.acceleration, 3)
        if name in residuals:
            rms = float(residuals[name].square().mean().sqrt()) / operator.data_size(data) ** 0.5
            entry["residual_rms"] = round(rms, 6)
            entry["residual_over_noise"] = (
                round(rms / operator.noise_std, 3) if operator.noise_std else None
            )
        if name in known.truth:
            truth = known.truth[name]
            chosen = covered(truth[:, None])
            if chosen.any():
                entry["slices_scored"] = int(chosen.sum())
                entry["score"] = _score(mean[chosen, m], truth[chosen])
                if name in residuals:
                    plain = operator.prox(data, torch.zeros_like(truth), LEAST_SQUARES_WEIGHT)
                    entry["score_zero_filled"] = _score(
                        operator.adjoint(data)[chosen], truth[chosen]
                    )
                    entry["score_without_prior"] = _score(plain[chosen], truth[chosen])
        judged[name] = entry
    report: dict[str, Any] = {"modalities": judged, "slices": list(known.slice_ids)}
    if known.note:
        report["patient"] = known.note
    return report


def _score(image: Tensor, truth: Tensor) -> dict[str, float]:
    image = image.clamp(0, 1)
    return {
        "psnr": round(float(psnr(image, truth).mean()), 3),
        "ssim": round(float(ssim(image, truth).mean()), 4),
    }


def _write_patient(folder: Path, prior: DiffusionPrior, known: Known, results: Tensor) -> None:
    """NIfTI of the mean and, of several draws, the standard deviation; and the preview."""
    like = next(iter(known.volumes.values()))
    first = known.slice_ids.start
    mean, std = results.mean(0), results.std(0) if len(results) > 1 else None
    for m, name in enumerate(prior.modalities):
        scale = known.volumes[name].scale if name in known.volumes else 1.0
        values = (mean[:, m] * scale).numpy()
        if known.operator.operators[name] == Identity():
            # as it went in: without the rounding and the clipping of the normalisation
            values = known.volumes[name].slices[first : known.slice_ids.stop]
        write_volume(folder / f"{name}.nii.gz", values, like, first)
        if std is not None:
            write_volume(folder / f"{name}_std.nii.gz", (std[:, m] * scale).numpy(), like, first)
    measurement = Measurement(known.operator, known.data)
    preview(measurement, mean, known.truth, known.source, known.note).save(folder / "preview.png")


def _write_draws(folder: Path, prior: DiffusionPrior, results: Tensor) -> None:
    """Unconditional draws (D, M, H, W): a NIfTI slice a modality and draw; a contact sheet."""
    for d, stack in enumerate(results):
        patient = folder / f"draw_{d:03d}"
        patient.mkdir()
        for m, name in enumerate(prior.modalities):
            write_slices(patient / f"{name}.nii.gz", stack[m : m + 1].numpy(), NO_PLACE)
    contact_sheet(results, prior.modalities).save(folder / "preview.png")


def _tell(console: Console, report: Mapping[str, Any], folder: Path, known: Known | None) -> None:
    if known is None:
        console.print(f"{report['draws']} synthetic draws in {folder}")
        return
    if known.note:
        console.print(f"patient: {known.note}")
    for name, entry in report["modalities"].items():
        text = f"{name}: {entry['source']}"
        if "score" in entry and entry["source"] != "measured":
            text += f", {_figures(entry['score'])}"
        if "score_without_prior" in entry:
            text += (
                f"; without the prior {_figures(entry['score_without_prior'])}, "
                f"zero-filled {_figures(entry['score_zero_filled'])}"
            )
        console.print(text, highlight=False)
    console.print(f"{report['seconds']:.0f} s; images, report.json and preview.png in {folder}")


def _figures(score: Mapping[str, float]) -> str:
    return f"PSNR {score['psnr']:.1f} dB, SSIM {score['ssim']:.3f}"
