"""Results as CSV, one line per slice, and as LaTeX tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from any2all_eval.statistics import Records
from any2all_eval.study import Study
from any2all_eval.tables import Line, header_and_cells

LATEX = {mark: f"\\{mark}" for mark in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "²": "$^2$",
}


def as_csv(records: Records) -> str:
    """One line per slice, image and method; lists are joined by spaces."""
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                k: " ".join(f"{a:.0f}" for a in v) if isinstance(v, list) else v
                for k, v in record.items()
            }
        )
    return text.getvalue()


def latex(studies: Sequence[Study], lines: Sequence[Line]) -> str:
    """One booktabs table per study."""
    parts = []
    for study in studies:
        own = [line for line in lines if line.key[0] == study.name]
        if not own:
            continue
        header, cells = header_and_cells(own)
        body = [" & ".join(map(escaped, row)) + r" \\" for row in (header, *cells)]
        parts += [
            rf"\begin{{table}}\caption{{{escaped(study.title)}}}",
            rf"\begin{{tabular}}{{lll{'r' * (len(header) - 3)}}}\toprule",
            body[0] + r"\midrule",
            *body[1:],
            r"\bottomrule\end{tabular}\end{table}",
            "",
        ]
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Text escaped for LaTeX."""
    return "".join(LATEX.get(mark, mark) for mark in text)
