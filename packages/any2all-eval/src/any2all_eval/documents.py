"""tables.md: the tables of a run, with their captions and explanations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from any2all_eval.claims import Claim, Step, said
from any2all_eval.findings import Findings
from any2all_eval.generation import Generation
from any2all_eval.tables import (
    METRICS,
    Safety,
    agreement,
    header_and_cells,
    overviews,
    times,
)

NOTE = (
    "Means over patients of means over slices, with the bootstrap 95 % interval over patients. "
    "p: Wilcoxon signed-rank of PSNR against the first method of the same input. At the best "
    "scale: a volume is multiplied by the one factor that minimises its squared error. This is "
    "done for MR only, because MR has no unit. copy: a given MR image, unchanged, is taken as the "
    "missing one. If several are given, the one with the best PSNR on val is used, or without val "
    "the best one on the patients who validated the prior."
)
BEATEN = "Beside simple references"
AGREEMENT = "Agreement with the measurement"
NOT_SAFETY = (
    "Agreement says that a result fits the measurement. It does not say that the rest is right."
)
RESIDUAL = (
    "RMS of y - A x over the standard deviation of the noise. It is about 1 if a result agrees "
    "with its measurement, and less if the result also fits the noise."
)


def markdown(found: Findings) -> str:
    """Every table of the report. The times come last, because they differ between runs."""
    lines, safety = found.lines, found.safety
    parts = []
    if lines:
        count, sentences = found.beaten
        parts += [f"## {BEATEN}\n", f"{count}\n", *(f"- {text}" for text in sentences), ""]
    if any(line.residual is not None for line in lines):
        parts += [f"## {AGREEMENT}\n", f"{RESIDUAL}\n", *markdown_table(*agreement(lines)), ""]
    if safety:
        header = ["input", "image", "method", "lesions", "lost", "mm² of each", "invented", "mm²"]
        parts += [
            "## Lesions lost and invented\n",
            *markdown_table(header, map(counts, safety)),
            "",
        ]
    if lines:
        parts += ["## The paper's claims\n", *claim_lines(found.claims), ""]
    for study in found.studies:
        own = [line for line in lines if line.key[0] == study.name]
        if not own:
            continue
        parts.append(f"## {study.title}\n")
        for caption, header, cells in overviews(own):
            parts += [f"{caption}\n", *markdown_table(header, cells), ""]
        parts += ["<details><summary>All metrics</summary>\n"]
        parts += [*markdown_table(*header_and_cells(own)), f"\n{NOTE}\n\n</details>\n"]
    for name, stacks in found.made.items():
        parts += [f"## Stacks from {name}\n", *markdown_table(*generation_lines(stacks)), ""]
    if lines:
        parts += ["## Time\n", *markdown_table(*times(lines)), ""]
    return "\n".join(parts)


def markdown_table(header: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    rows = ([cell.replace("|", "\\|") for cell in row] for row in cells)
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def counts(entry: Safety) -> list[str]:
    """Its line of the table."""
    _, row, method, image = entry.key
    lost, invented = (" ".join(f"{a:.0f}" for a in areas) for areas in (entry.lost, entry.invented))
    figures = [len(entry.lesions), len(entry.lost), lost, len(entry.invented), invented]
    return [row, image, method, *map(str, figures)]


def generation_lines(found: Generation) -> tuple[list[str], list[list[str]]]:
    """Distances of the draws, compared with those of real slices."""
    near = [
        " / ".join(f"{q:.4f}" for q in quantiles)
        for quantiles in (found.nearest_draws, found.nearest_held_out)
    ]
    header = [
        f"{found.slices} slices a set",
        "Fréchet distance (not FID)",
        "nearest training slice",
        *found.by_network,
    ]
    lines = [
        ["other half of the training people", f"{found.frechet_halves:.2f}", ""],
        ["people held out", f"{found.frechet_held_out:.2f}", near[1]],
        [f"{found.draws} draws", f"{found.frechet_draws:.2f}", near[0]],
    ]
    by_network = [[f"{of[k]:.1f}" for of in found.by_network.values()] for k in range(3)]
    return header, [line + more for line, more in zip(lines, by_network, strict=True)]


def claim_lines(claims: Sequence[Claim]) -> list[str]:
    """A paragraph for each claim, with its figures."""
    found = []
    for claim in claims:
        found.append(f"- **{claim.text}**: {claim.decision if claim.steps else 'not measured'}")
        for step in claim.steps:
            (name, decimals), unit = METRICS[step.metric], " dB" if step.metric == "psnr" else ""
            mean = said(step.found.mean, decimals)
            found.append(f"  - {step.what}: {name} {mean}{unit}{p_of(step)}")
    return found


def p_of(step: Step) -> str:
    """, p 0.003"""
    return "" if math.isnan(step.found.p) else f", p {step.found.p:.3f}"
