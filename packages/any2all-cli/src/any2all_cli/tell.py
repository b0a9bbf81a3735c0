"""Messages with which ``any2all sample`` reports its results."""

from __future__ import annotations

import shlex
from importlib.metadata import entry_points
from pathlib import Path

from any2all_app.report_format import ErrorReport, ModalityReport, Report, Score
from any2all_app.results import Completion
from rich.console import Console
from rich.markup import escape

from any2all_cli.main import COMMANDS

SOURCES = {"missing": "synthesised (not measured)"}
"""Words for the source of a result, if they are not those of the report."""


def tell(console: Console, completion: Completion, folder: Path) -> None:
    """Print the result of each modality and the folder of the files."""
    report, note = completion.report, completion.measurement.note
    if note:
        console.print(escape(f"patient: {note}"), highlight=False, soft_wrap=True)
    for name, entry in report["modalities"].items():
        text = f"{name}: {SOURCES.get(entry['source'], entry['source'])}"
        if "score" in entry and entry["source"] != "measured":
            text += f", {_figures(entry['score'])}{_at_best_scale(entry['score'])}"
        if "score_copy" in entry:
            copy = entry["score_copy"]
            text += f"; a copy of {copy['of']} {_figures(copy)}{_at_best_scale(copy)}"
        if "score_without_prior" in entry:
            text += f"; without the prior {_figures(entry['score_without_prior'])}"
        if "score_zero_filled" in entry:
            text += f", zero-filled {_figures(entry['score_zero_filled'])}"
        if "error" in entry:
            text += f"; {_error(entry['error'])}"
        if "effective_acceleration" in entry:
            text += f"; {entry['effective_acceleration']:.1f}-fold undersampled in effect"
        if "scan" in entry and entry["residual_over_noise"]:
            text += f", residual {entry['residual_over_noise']:.1f} x the noise"
        for line in (text, f"{name}: {in_units(entry)}"):
            console.print(escape(line), highlight=False, soft_wrap=True)
        if "held_out_says" in entry:
            said = escape(f"{name}: {entry['held_out_says']}")
            console.print(said, highlight=False, soft_wrap=True)
        for note in entry.get("notes", []):
            console.print(escape(f"{name}: {note}"), highlight=False, soft_wrap=True)
        for warning in entry.get("warnings", []):
            console.print(escape(f"{name}: warning: {warning}"), highlight=False, soft_wrap=True)
    console.print(f"{report['seconds']:.0f} s; images, report.json and preview.png in {folder}")
    if "view" in entry_points(group=COMMANDS).names:
        look = f"to look at them: any2all view {shlex.quote(str(folder))}"
        console.print(look, highlight=False, soft_wrap=True, markup=False)


def tell_scans(console: Console, report: Report, patient: str) -> None:
    """Print one patient's data residuals, notes and warnings in a run over many patients."""
    if report.get("patient", "").startswith("warning"):
        said = escape(f"{patient}: {report['patient']}")
        console.print(said, highlight=False, soft_wrap=True)
    for name, entry in report["modalities"].items():
        texts = list(entry.get("notes", []))
        texts += [f"warning: {warning}" for warning in entry.get("warnings", [])]
        if "scan" in entry and entry["residual_over_noise"]:
            texts.insert(0, f"residual {entry['residual_over_noise']:.1f} x the noise")
        if "held_out_says" in entry:
            texts.append(entry["held_out_says"])
        for text in texts:
            line = escape(f"{patient}: {name}: {text}")
            console.print(line, highlight=False, soft_wrap=True)


def in_units(entry: ModalityReport) -> str:
    """Format an image's unit, the values that map to 0 and 1, and the share outside of them."""
    low, high = entry["scale"]
    said = f"unit {entry['unit']}, scale {low:.4g} to {high:.4g}"
    if "clipped" in entry:
        said += f", {100 * entry['clipped']:.2g} % of its voxels outside"
    return said


def _error(found: ErrorReport) -> str:
    """Format the error of a missing CT or PET, beside that of the best constant."""
    own, constant = (f"{mae:.3g} {found['unit']}" for mae in (found["mae"], found["mae_constant"]))
    return f"mean error in the head {own}, of the best constant {constant}"


def _figures(score: Score) -> str:
    return f"PSNR {score['psnr']:.1f} dB, SSIM {score['ssim']:.3f}"


def _at_best_scale(score: Score) -> str:
    if "psnr_scaled" not in score:
        return ""
    return f" (at the best scale {score['psnr_scaled']:.1f} dB, {score['ssim_scaled']:.3f})"
