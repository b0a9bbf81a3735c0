"""The run behind ``any2all evaluate``."""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from any2all_app.folders import write_text
from any2all_app.report import versions
from any2all_app.shared_run import begin, wait_for_all
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import prior_folder
from any2all_operators import UserError
from rich.console import Console

from any2all_eval.beaten import compare, told
from any2all_eval.claims import Results, decide
from any2all_eval.evaluate import Evaluation, records_in, sampler_of
from any2all_eval.figures import curves_figure, scatter_figure, write_figures
from any2all_eval.generation import check, generate
from any2all_eval.metrics import fid
from any2all_eval.metrics import lpips as load_lpips
from any2all_eval.patients import find_people, has_all
from any2all_eval.references import References
from any2all_eval.report import report_page
from any2all_eval.study import Study, read_study
from any2all_eval.tables import as_csv, latex, lines_of, markdown, safety_of

JUDGED = ("test", "val")
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
    inception: Path | None,
    shown: int,
    resume: bool,
    batch_size: int,
    precision: str,
    device: str,
) -> bool:
    """Do every part that is not there, write what all of them say; False if some were refused."""
    if group not in JUDGED:
        raise UserError(f"--group {group}: expected {' or '.join(JUDGED)}")
    folder = prior_folder(prior_name)
    prior = DiffusionPrior.load(folder, precision, device)
    studies = [_changed(read_study(n, prior.modalities), samplers, draws) for n in study_names]
    texts = {text for study in studies for text in study.samplers}
    samplers_used = {text: vars(sampler_of(text)) for text in sorted(texts)}
    people = find_people(input_, group)
    named = dict(list(people.groups[group].items())[:limit])
    check(studies, people, group)
    console = Console(stderr=True)
    perceptual = None
    if with_lpips:
        try:
            perceptual = load_lpips()
        except UserError as error:
            console.print(str(error), soft_wrap=True, markup=False)
    distance = None if inception is None else fid(inception)
    identity = {
        "studies": [asdict(study) for study in studies],
        "prior": weights_hash(folder),
        "input": input_,
        "group": group,
        "people": {g: sorted(members) for g, members in people.groups.items()},
        "samplers": samplers_used,
        "slices": slices,
        "references": with_references,
        "lpips": perceptual is not None,
        "precision": str(prior.unet.dtype),
        "batch_size": batch_size,
        "versions": versions(),
    }
    references = References(prior, people, output / "tuned.json") if with_references else None
    evaluation = Evaluation(studies, prior, references, output, slices, batch_size, perceptual)
    parts = evaluation.parts()
    doubled = [p for p, n in Counter(part.path(Path()).name for part in parts).items() if n > 1]
    if doubled:
        raise UserError(
            f"two rows or studies would both be kept as {doubled[0]}; rename one (letters and "
            "digits tell names apart)"
        )
    if not any(has_all(path, prior) for path in named.values()):
        raise UserError(
            f"--input {input_}: nobody of {group} has all of {', '.join(prior.modalities)}"
        )
    rank, processes = begin(output, identity, resume)
    whole = evaluation.run({n: named[n] for n in list(named)[rank::processes]})
    made = {}
    if rank == 0:
        made = generate(studies, prior, people, named, slices, output, distance)
    if processes > 1:
        wait_for_all()
    if rank:
        return whole
    records = records_in(output, parts, list(named))
    results = Results(studies, records)
    lines, claims, safety = lines_of(records), decide(results), safety_of(records)
    compared = compare(studies, lines)
    beaten = told(compared)
    facts: dict[str, Any] = {
        "prior": {"name": Path(prior_name).name, "sha256": identity["prior"]},
        "who": VIRTUAL if people.virtual else "patients",
        "prior_is_virtual": bool(prior.settings.training.get("virtual")),
        "input": {"group": group, "patients": len({r["patient"] for r in records})},
        "slices": len({(r["patient"], r["slice"]) for r in records}),
        "versions": identity["versions"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {prior.device}",
        "left_out": {study.name: study.left_out for study in studies if study.left_out},
        "not_for_clinical_use": True,
    }
    write_text(output / "results.csv", as_csv(records))
    report: dict[str, Any] = {
        **facts,
        "samplers": samplers_used,
        "tuned_on_val": references.tuned_so_far() if references else {},
        "results": [asdict(line) for line in lines],
        "beaten": [{**asdict(c), "sentence": c.sentence} for c in compared if c.below],
        "claims": [{**asdict(claim), "verdict": claim.verdict} for claim in claims],
        "lesions": [asdict(entry) for entry in safety],
        "generation": {name: asdict(found) for name, found in made.items()},
    }
    text = json.dumps(finite(report), indent=2, allow_nan=False)
    write_text(output / "report.json", text + "\n")
    write_text(output / "tables.md", markdown(studies, lines, claims, safety, made, beaten))
    write_text(output / "tables.tex", latex(studies, lines))
    figures = {}
    for study in studies:
        own = [line for line in lines if line.key[0] == study.name]
        figures[f"{study.name}-curves"] = curves_figure(results, study)
        figures[f"{study.name}-scatter"] = scatter_figure(own)
    if records:
        write_figures(parts, figures, output, records[0]["patient"], facts["who"])
    pictured = list(dict.fromkeys(record["patient"] for record in records))[:shown]
    page = report_page(
        parts, studies, facts, figures, lines, claims, safety, made, beaten, output, pictured
    )
    write_text(output / "report.html", page)
    for claim in claims:
        if claim.steps:
            console.print(f"{claim.text}: {claim.verdict}", highlight=False)
    if lines:
        for said in (beaten[0], *beaten[1]):
            console.print(said, soft_wrap=True, highlight=False, markup=False)
    console.print(f"report.html, results.csv, tables in {output}", soft_wrap=True)
    return whole


def finite(value: Any) -> Any:
    """With None for what is not a number, which JSON has no word for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _changed(study: Study, samplers: Sequence[str], draws: int | None) -> Study:
    """With the command line's samplers and draws; those of stacks from nothing are another's."""
    if not all(row.known for row in study.rows):
        return study
    study = replace(study, samplers=tuple(samplers) or study.samplers)
    return replace(study, draws=draws or study.draws)
