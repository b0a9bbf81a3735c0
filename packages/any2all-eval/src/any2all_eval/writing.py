"""The report and the tables of a run, which are rewritten as its parts finish."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from any2all_app.folders import write_text

from any2all_eval.beaten import compare, told
from any2all_eval.claims import Claim, Results, decide
from any2all_eval.documents import markdown
from any2all_eval.figures import curves_figure, scatter_figure, time_figure, write_figures
from any2all_eval.findings import Findings
from any2all_eval.formats import as_csv, latex
from any2all_eval.generation import Generation
from any2all_eval.parts import PARTS, Part, records_in, unlike_training
from any2all_eval.pictures import Pictured
from any2all_eval.references import References
from any2all_eval.report import report_page
from any2all_eval.study import Study
from any2all_eval.tables import Line, lines_of, safety_of

EVERY, SHARE = 20.0, 10.0
"""Least time between two reports: in seconds, and as a multiple of the writing time."""


@dataclass(frozen=True)
class Written:
    """The head of a report: the claims, and the number of beaten results."""

    lines: Sequence[Line]
    claims: Sequence[Claim]
    beaten: tuple[str, list[str]]


@dataclass
class Writer:
    """Writes the present results of a run into its folder.

    ``facts`` are the other contents of report.json. ``people`` are the names of all judged
    patients, and ``shown`` is the number of those with images in the report.
    """

    studies: Sequence[Study]
    parts: Sequence[Part]
    people: Sequence[str]
    facts: Mapping[str, Any]
    references: References | None
    output: Path
    shown: int
    _next: float = field(default_factory=lambda: time.monotonic() + EVERY)

    def rewrite(self) -> None:
        """Write everything, unless it was written a short while ago."""
        now = time.monotonic()
        if now >= self._next:
            self.write({}, finished=False)
            took = time.monotonic() - now
            self._next = now + took + max(EVERY, SHARE * took)

    def write(self, made: Mapping[str, Generation], finished: bool = True) -> Written:
        """Write report.html, report.json, results.csv, the tables and the figures.

        ``finished`` says whether everything is done that can be done; if it isn't, the report says
        so.
        """
        output, studies, parts = self.output, self.studies, self.parts
        records = records_in(output, parts, self.people)
        results = Results(studies, records)
        lines, claims, safety = lines_of(records), decide(results), safety_of(records)
        compared = compare(studies, lines)
        beaten = told(compared)
        patients = list(dict.fromkeys(record["patient"] for record in records))
        facts = dict(self.facts)
        facts["input"] = {**facts["input"], "patients": len(patients)}
        facts["slices"] = len({(r["patient"], r["slice"]) for r in records})
        facts["unlike_training"] = unlike_training(output, self.people)
        facts["unfinished"] = "" if finished else self._unfinished()
        write_text(output / "results.csv", as_csv(records))
        report: dict[str, Any] = {
            **facts,
            "tuned_on_val": self.references.tuned_so_far() if self.references else {},
            "results": [asdict(line) for line in lines],
            "beaten": [{**asdict(c), "sentence": c.sentence} for c in compared if c.below],
            "claims": [
                {**asdict(c), "verdict": c.verdict, "patients_needed": c.patients_needed}
                for c in claims
            ],
            "lesions": [asdict(entry) for entry in safety],
            "generation": {name: asdict(found) for name, found in made.items()},
        }
        text = json.dumps(finite(report), indent=2, allow_nan=False)
        write_text(output / "report.json", text + "\n")
        figures = {}
        for study in studies:
            own = [line for line in lines if line.key[0] == study.name]
            figures[f"{study.name}-curves"] = curves_figure(results, study)
            figures[f"{study.name}-time"] = time_figure(study, own)
            figures[f"{study.name}-scatter"] = scatter_figure(own)
        if records:
            write_figures(parts, figures, output, patient=patients[0], who=facts["who"])
        found = Findings(studies, lines, claims, safety, made, beaten, figures)
        write_text(output / "tables.md", markdown(found))
        write_text(output / "tables.tex", latex(studies, lines))
        page = report_page(found, facts, Pictured(parts, output, patients[: self.shown]))
        write_text(output / "report.html", page)
        return Written(lines, claims, beaten)

    def _unfinished(self) -> str:
        """A sentence with the finished share of an unfinished study."""
        folders = [self.output / PARTS / name for name in self.people]
        pairs = [(part, folder) for part in self.parts for folder in folders]
        total = len(pairs)
        whole = sum(part.path(folder).exists() for part, folder in pairs)
        few = sum(part.path(folder, few=True).exists() for part, folder in pairs)
        return (
            f"This is an unfinished study: {whole} of {total} results are of all slices, {few} of "
            "a few slices so far, and the others have yet to be made. Give the same command with "
            "--resume to go on."
        )


def finite(value: Any) -> Any:
    """The value with None for each NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
