"""Judge a result by its scores and its data, and write its files and pictures."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from any2all_core.registry import GROUPS, list_plugins
from any2all_data.appearance import unlike
from any2all_data.coverage import covered
from any2all_data.kinds import kind_for
from any2all_data.metrics import at_best_scale, psnr, ssim
from any2all_data.normalise import Array
from any2all_data.patient import Volume, write_slices, write_volume
from any2all_data.sidecar import write_suv_sidecar
from any2all_operators import Measurement, UserError
from torch import Tensor

from any2all_app.error_in_units import error_of
from any2all_app.measurement import PatientMeasurement
from any2all_app.preview import contact_sheet, preview
from any2all_app.report_format import CopyScore, ModalityReport, PatientReport, Report, Score

LEAST_SQUARES_WEIGHT = 100.0
"""Weight of the result without a prior, argmin 100 ‖A x − y‖² + ‖x‖², which is CG-SENSE for
k-space."""
NO_PLACE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""The affine of an image that was never in a scanner: 1 mm, axes (L, P, S)."""
LARGE_RESIDUAL = 2.0
"""Ratio of residual to noise above which a warning is given. Noise alone gives 1."""
PACKAGES = ("core", "operators", "samplers", "mri", "data", "app")


def versions() -> dict[str, str]:
    """Return the versions of our packages, of all plugins, of torch and of Python."""
    plugins = [plugin for group in GROUPS for plugin in list_plugins(group)]
    ours = {f"any2all-{name}": version(f"any2all-{name}") for name in PACKAGES}
    of_plugins = {plugin.distribution: plugin.version for plugin in plugins}
    return ours | of_plugins | {"torch": torch.__version__, "python": platform.python_version()}


def judge(measurement: PatientMeasurement, results: Tensor) -> PatientReport:
    """Return the part of the report that is about the patient's images.

    ``results`` is (D, B, M, H, W) in [0, 1].
    """
    mean = results.mean(0)
    residuals = Measurement(measurement.operator, measurement.data).near(mean).residual(mean)
    judged: dict[str, ModalityReport] = {}
    for m, name in enumerate(measurement.operator.modalities):
        entry = _how_made(measurement, name)
        if name in residuals:
            _add_agreement(entry, measurement, name, residuals[name])
        if name in measurement.truth:
            _add_scores(entry, measurement, name, mean[:, m])
            if measurement.source[name] == "missing" and (
                error := error_of(measurement, name, mean)
            ):
                entry["error"] = error
        judged[name] = entry
    report: PatientReport = {"modalities": judged, "slices": list(measurement.slice_ids)}
    if measurement.own is not None:
        first, own = measurement.own.first, measurement.own.like
        report["own_slices"] = list(range(first, first + len(own.slices)))
    if measurement.note:
        report["patient"] = measurement.note
    return report


def _how_made(measurement: PatientMeasurement, name: str) -> ModalityReport:
    operator, built = measurement.operator.operators[name], measurement.built.get(name)
    entry: ModalityReport = {
        "operator": built.name if built else "missing",
        "options": built.options if built else {},
        "source": measurement.source[name],
        "unit": measurement.units[name],
        "scale": [measurement.ranges[name].low, measurement.ranges[name].high],
    }
    if name in measurement.clipped:
        entry["clipped"] = round(measurement.clipped[name], 6)
    if name in measurement.volumes and (notes := measurement.volumes[name].notes):
        only_truth = name in measurement.truth and not measurement.as_given(name)
        entry["notes"] = [_as_truth(note) if only_truth else note for note in notes]
    if built and built.measured:
        entry["scan"] = dict(built.measured.details)
        entry["warnings"] = list(entry["scan"].pop("warnings", []))
    if operator.noise_std:
        entry["noise_std"] = operator.noise_std
    if hasattr(operator, "acceleration"):
        entry["effective_acceleration"] = round(operator.acceleration, 3)
    return entry


def _add_agreement(
    entry: ModalityReport, measurement: PatientMeasurement, name: str, residual: Tensor
) -> None:
    """Add the RMS of the residual, and a warning if it is large for real data.

    ``residual`` (B,) is ‖y − A x̂‖ of each slice.
    """
    operator, data = measurement.operator.operators[name], measurement.data[name]
    rms = float(residual.square().mean().sqrt()) / operator.data_size(data) ** 0.5
    over_noise = round(rms / operator.noise_std, 3) if operator.noise_std else None
    entry["residual_rms"] = round(rms, 6)
    entry["residual_over_noise"] = over_noise
    if "scan" in entry and over_noise is not None and over_noise > LARGE_RESIDUAL:
        entry["warnings"].append(_residual_warning(over_noise))


def _add_scores(
    entry: ModalityReport, measurement: PatientMeasurement, name: str, image: Tensor
) -> None:
    """Add the scores of the image (B, H, W) and of simpler ones, on the slices with a head."""
    truth = measurement.truth[name]
    chosen = covered(truth[:, None])
    if not chosen.any():
        return
    operator, data = measurement.operator.operators[name], measurement.data[name]
    score = _score if measurement.format[name].range else _score_without_unit
    entry["slices_scored"] = int(chosen.sum())
    entry["score"] = score(image[chosen], truth[chosen])
    if data.numel():
        if hasattr(operator, "acceleration"):
            entry["score_zero_filled"] = score(operator.adjoint(data)[chosen], truth[chosen])
        plain = operator.prox(data, torch.zeros_like(truth), LEAST_SQUARES_WEIGHT)
        entry["score_without_prior"] = score(plain[chosen], truth[chosen])
    if measurement.source[name] == "missing" and (copy := _best_copy(measurement, name, chosen)):
        entry["score_copy"] = copy
        if warning := _copy_is_better(name, entry["score"], copy):
            entry["warnings"] = [warning]


def _copy_is_better(name: str, own: Score, copy: CopyScore) -> str | None:
    """Return a warning if a copy has the higher PSNR or SSIM at the best scale."""
    psnr, ssim = copy["psnr_scaled"] > own["psnr_scaled"], copy["ssim_scaled"] > own["ssim_scaled"]
    if not (psnr or ssim):
        return None
    which = "PSNR and SSIM" if psnr and ssim else "PSNR" if psnr else "SSIM"
    return (
        f"a copy of {copy['of']} is nearer to this patient's true {name} in {which} "
        f"({copy['psnr_scaled']:.1f} dB, {copy['ssim_scaled']:.3f} at the best scale) than the "
        f"result ({own['psnr_scaled']:.1f} dB, {own['ssim_scaled']:.3f}). Do not trust its "
        "contrast or its detail"
    )


def _best_copy(measurement: PatientMeasurement, name: str, chosen: Tensor) -> CopyScore | None:
    """Return the score of the clean MR image that is nearest to a missing one at the best scale.

    ``chosen`` (Z,) marks the slices that are scored. Returns None for CT and PET, or if no MR image
    is given clean.
    """
    kinds, truth = measurement.format, measurement.truth[name][chosen]
    copies: list[CopyScore] = [
        {"of": m, **_score_without_unit(measurement.data[m][chosen], truth)}
        for m in measurement.built
        if measurement.as_given(m) and not (kinds[m].range or kinds[name].range)
    ]
    return max(copies, key=lambda copy: copy["psnr_scaled"], default=None)


def _as_truth(note: str) -> str:
    """Reword the note on a file that is only the truth, and does not enter the result."""
    return f"its truth is {note}" if note.startswith("read from") else note


def unlike_training(
    measurement: PatientMeasurement, looks: Mapping[str, Mapping[str, tuple[float, float]]]
) -> dict[str, str]:
    """Return {modality: a warning} for images that do not look like those of the training.

    ``looks`` is {modality: {name: usual range}}, as a prior stores them.
    """
    warnings: dict[str, str] = {}
    for m, volume in measurement.volumes.items():
        if m not in measurement.built or m not in looks:
            continue
        image = measurement.ranges[m].normalise(volume.slices)
        if found := unlike(image, looks[m]):
            warnings[m] = (
                f"this image does not look like the {m} of the training patients: "
                f"{'; '.join(found)}. Expect worse results than on such patients. Is the image "
                "skull-stripped, cropped, or of another contrast or scanner?"
            )
    return warnings


def check_finite(results: Tensor, modalities: Sequence[str], slice_ids: Sequence[int]) -> None:
    """Raise UserError that names the modality and the slice of a result that is not finite."""
    bad = ~torch.isfinite(results).flatten(3).all(-1).all(0)  # (B, M)
    if bad.any():
        b, m = torch.nonzero(bad)[0].tolist()
        raise UserError(
            f"{modalities[m]}: the result of slice {slice_ids[b]} is NaN or infinite, so nothing "
            "was written. Check that slice's data, or leave the slice out with --slices"
        )


def _residual_warning(residual: float) -> str:
    return (
        f"the image leaves a residual of {residual:.1f} times the noise; about 1 is expected. "
        "The phase may not be smooth, noise_std may be wrong, the patient may have moved, or the "
        "coil maps may be wrong. Do not trust details of this image"
    )


def _score(image: Tensor, truth: Tensor) -> Score:
    image = image.clamp(0, 1)
    return {
        "psnr": round(float(psnr(image, truth).mean()), 3),
        "ssim": round(float(ssim(image, truth).mean()), 4),
    }


def _score_without_unit(image: Tensor, truth: Tensor) -> Score:
    """Score MR as it is and at its best scale, because the brightness may be unknown."""
    scaled = _score(at_best_scale(image, truth), truth)
    plain = _score(image, truth)
    return {**plain, "psnr_scaled": scaled["psnr"], "ssim_scaled": scaled["ssim"]}


def physical_images(
    measurement: PatientMeasurement, results: Tensor
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return means and standard deviations of the draws, {modality: (Z, H, W)} in physical units.

    ``results`` is (D, B, M, H, W) in [0, 1]. The deviations of a single draw are empty. A modality
    that was given clean is returned unchanged, without the rounding and clipping of the
    normalisation. If the patient's images were resampled, all results are resampled back to the
    patient's own grid.
    """
    first, whole, own = measurement.asked.start, measurement.in_place(results), measurement.own
    mean, std = whole.mean(0), whole.std(0) if len(whole) > 1 else None
    means: dict[str, Array] = {}
    stds: dict[str, Array] = {}
    for m, name in enumerate(measurement.operator.modalities):
        values = measurement.ranges[name]
        means[name] = values.physical(mean[:, m].numpy())
        if measurement.as_given(name):
            means[name] = measurement.volumes[name].slices[first : measurement.asked.stop]
        if std is not None:
            stds[name] = (std[:, m] * (values.high - values.low)).numpy()
        if own is not None:
            affine = placed(measurement).affine
            given = own.images.get(name) if measurement.as_given(name) else None
            back = own.resampled_back(means[name], affine, values.low) if given is None else given
            means[name] = back
            if std is not None:
                stds[name] = own.resampled_back(stds[name], affine, 0.0)
    return means, stds


def placed(measurement: PatientMeasurement) -> Volume:
    """Return a volume of the patient with the affine of the requested slices."""
    like = next(iter(measurement.volumes.values()))
    affine = np.array(like.affine, float)
    affine[:3, 3] += measurement.asked.start * affine[:3, 2]
    return replace(like, affine=affine)


def write_patient(
    folder: Path,
    measurement: PatientMeasurement,
    means: Mapping[str, Array],
    stds: Mapping[str, Array],
) -> None:
    """Write the images of :func:`physical_images` as NIfTI. PET gets a sidecar with its unit."""
    like = placed(measurement) if measurement.volumes else None
    if measurement.own is not None:
        like = measurement.own.like
    for file, image in ({**means} | {f"{name}_std": std for name, std in stds.items()}).items():
        if like is None:
            write_slices(folder / f"{file}.nii.gz", image, NO_PLACE)
        else:
            write_volume(folder / f"{file}.nii.gz", image, like)
    for modality in measurement.format.modalities:
        if modality.range is not None and kind_for(modality).values == "suv":
            write_suv_sidecar(folder / f"{modality.name}.nii.gz")


def write_preview(
    folder: Path, measurement: PatientMeasurement, draws: Tensor, report: Report
) -> None:
    """Write ``preview.png`` of draws (D, B, M, H, W), with the scores of :func:`judge`."""
    preview(measurement, draws, report["modalities"]).save(folder / "preview.png")


def write_draws(folder: Path, modalities: Sequence[str], results: Tensor) -> None:
    """Write unconditional draws (D, M, H, W): NIfTI slices per draw, and a contact sheet."""
    for d, stack in enumerate(results):
        patient = folder / f"draw_{d:03d}"
        patient.mkdir()
        for m, name in enumerate(modalities):
            write_slices(patient / f"{name}.nii.gz", stack[m : m + 1].numpy(), NO_PLACE)
    contact_sheet(results, modalities).save(folder / "preview.png")
