"""The report and the tables of a run, written again as its parts finish."""

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
from any2all_eval.figures import curves_figure, scatter_figure, write_figures
from any2all_eval.formats import as_csv, latex
from any2all_eval.generation import Generation
from any2all_eval.parts import PARTS, Part, records_in
from any2all_eval.references import References
from any2all_eval.report import Findings, report_page
from any2all_eval.study import Study
from any2all_eval.tables import Line, lines_of, markdown, safety_of

EVERY, SHARE = 20.0, 10.0
"""A report is written again after so many seconds, and so many times as long as writing takes."""


@dataclass(frozen=True)
class Written:
    """What a report says first: the claims, and how many results a simple reference beats."""

    lines: Sequence[Line]
    claims: Sequence[Claim]
    beaten: tuple[str, list[str]]


@dataclass
class Writer:
    """Writes what there is of a run into its folder.

    facts: what report.json says beside the results; people: the names of all who are judged;
    shown: of how many of them the report has images.
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
        """Write all of it, unless that was done a short while ago."""
        now = time.monotonic()
        if now >= self._next:
            self.write({}, finished=False)
            took = time.monotonic() - now
            self._next = now + took + max(EVERY, SHARE * took)

    def write(self, made: Mapping[str, Generation], finished: bool = True) -> Written:
        """Write report.html, report.json, results.csv, the tables and the figures.

        finished: whether everything that could be done is; the report says it where it isn't.
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
        facts["unfinished"] = "" if finished else self._unfinished()
        write_text(output / "results.csv", as_csv(records))
        report: dict[str, Any] = {
            **facts,
            "tuned_on_val": self.references.tuned_so_far() if self.references else {},
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
            write_figures(parts, figures, output, patients[0], facts["who"])
        found = Findings(studies, lines, claims, safety, made, beaten, figures)
        page = report_page(found, facts, parts, output, patients[: self.shown])
        write_text(output / "report.html", page)
        return Written(lines, claims, beaten)

    def _unfinished(self) -> str:
        """How much of a study is there that is not finished, in a sentence."""
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
    """With None for what is not a number, which JSON has no word for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
