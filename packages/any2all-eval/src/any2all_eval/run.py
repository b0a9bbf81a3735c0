"""The run behind ``any2all evaluate``."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from any2all_cli.many import begin, wait_for_all
from any2all_cli.output import write_text
from any2all_cli.report import versions
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import prior_folder
from any2all_data.store import SPLITS
from any2all_operators import UserError
from rich.console import Console

from any2all_eval.claims import Results, decide
from any2all_eval.evaluate import Evaluation, records_in, sampler_of
from any2all_eval.figures import curves_figure, scatter_figure, write_figures
from any2all_eval.generation import generate
from any2all_eval.metrics import lpips as load_lpips
from any2all_eval.patients import find_people
from any2all_eval.references import References
from any2all_eval.report import report_page
from any2all_eval.study import Study, read_study
from any2all_eval.tables import as_csv, latex, lines_of, markdown, safety_of

VIRTUAL = "virtual people, simulated; no such people exist"


def run(
    study_names: list[str],
    input_: str,
    output: Path,
    prior_name: str,
    samplers: list[str],
    draws: int | None,
    group: str,
    limit: int | None,
    slices: int | None,
    with_references: bool,
    with_lpips: bool,
    shown: int,
    resume: bool,
    batch_size: int,
    precision: str,
    device: str,
) -> None:
    """Do every part that is not there, then write what all of them say."""
    if group not in SPLITS:
        raise UserError(f"--group {group}: expected {', '.join(SPLITS)}")
    folder = prior_folder(prior_name)
    prior = DiffusionPrior.load(folder, precision, device)
    studies = [_changed(read_study(n, prior.modalities), samplers, draws) for n in study_names]
    for text in {text for study in studies for text in study.samplers}:
        sampler_of(text)
    people = find_people(input_, group)
    named = list(people.groups[group].items())[:limit]
    console = Console(stderr=True)
    perceptual = None
    if with_lpips:
        try:
            perceptual = load_lpips()
        except UserError as error:
            console.print(str(error), soft_wrap=True, markup=False)
    identity = {
        "studies": [asdict(study) for study in studies],
        "prior": weights_hash(folder),
        "input": input_,
        "group": group,
        "slices": slices,
        "references": with_references,
        "lpips": perceptual is not None,
    }
    rank, processes = begin(output, identity, resume)
    references = References(prior, people, output / "tuned.json") if with_references else None
    evaluation = Evaluation(studies, prior, references, output, slices, batch_size, perceptual)
    seeds = {name: (seed, path) for seed, (name, path) in enumerate(named)}
    evaluation.run({n: seeds[n] for n in list(seeds)[rank::processes]})
    made = generate(studies, prior, people, output) if rank == 0 else {}
    if processes > 1:
        wait_for_all()
    if rank:
        return
    parts = evaluation.parts()
    records = records_in(output, parts, list(seeds))
    lines, claims, safety = lines_of(records), decide(studies, records), safety_of(records)
    facts: dict[str, Any] = {
        "prior": {"name": prior_name, "sha256": identity["prior"]},
        "who": VIRTUAL if people.virtual else "patients",
        "input": {"group": group, "patients": len({r["patient"] for r in records})},
        "slices": len({(r["patient"], r["slice"]) for r in records}),
        "versions": versions(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {prior.device}",
        "left_out": {study.name: study.left_out for study in studies if study.left_out},
        "not_for_clinical_use": True,
    }
    write_text(output / "results.csv", as_csv(records))
    report: dict[str, Any] = {
        **facts,
        "results": [asdict(line) for line in lines],
        "claims": [{**asdict(claim), "verdict": claim.verdict} for claim in claims],
        "lesions": [asdict(entry) for entry in safety],
        "generation": {name: asdict(found) for name, found in made.items()},
    }
    write_text(output / "report.json", json.dumps(report, indent=2) + "\n")
    write_text(output / "tables.md", markdown(studies, lines, claims, safety, made))
    write_text(output / "tables.tex", latex(studies, lines))
    figures = {}
    results = Results(studies, records)
    for study in studies:
        own = [line for line in lines if line.key[0] == study.name]
        figures[f"{study.name}-curves"] = curves_figure(results, study)
        figures[f"{study.name}-scatter"] = scatter_figure(own)
    if records:
        write_figures(parts, figures, output, records[0]["patient"], facts["who"])
    page = report_page(
        parts, studies, facts, figures, lines, claims, safety, made, output, list(seeds)[:shown]
    )
    write_text(output / "report.html", page)
    for claim in claims:
        if claim.steps:
            console.print(f"{claim.text}: {claim.verdict}", highlight=False)
    console.print(f"report.html, results.csv, tables in {output}", soft_wrap=True)


def _changed(study: Study, samplers: Sequence[str], draws: int | None) -> Study:
    """With the command line's samplers and draws, where rows have something to go by."""
    if not any(row.known for row in study.rows):
        return study
    study = replace(study, samplers=tuple(samplers) or study.samplers)
    return replace(study, draws=draws or study.draws)
