"""report.html: the whole report in one file that opens anywhere."""

from __future__ import annotations

import html
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from any2all_eval.claims import Claim, said
from any2all_eval.documents import (
    AGREEMENT,
    BEATEN,
    NOT_SAFETY,
    NOTE,
    RESIDUAL,
    generation_lines,
    p_of,
)
from any2all_eval.findings import Findings
from any2all_eval.generation import Generation
from any2all_eval.headline import Gain, gain_table, gains_of, result_sentence, strip_of
from any2all_eval.lesions import SHOWS_LESIONS
from any2all_eval.pictures import Pictured, images
from any2all_eval.tables import (
    METRICS,
    Line,
    Safety,
    agreement,
    header_and_cells,
    overviews,
    times,
)

FIGURES = ("curves", "time", "scatter")
"""Kinds of figures of each study."""
FIRST = 6
"""Results on the first screen; the others are folded."""


def report_page(found: Findings, facts: Mapping[str, Any], pictured: Pictured) -> str:
    """The whole page."""
    studies, lines, made, figures = found.studies, found.lines, found.made, found.figures
    gains = gains_of(studies, lines)
    body = [
        f"<p><b>{text(facts['unfinished'])}</b></p>" if facts["unfinished"] else "",
        first_screen(gains, made, facts, pictured),
        beaten_list(*found.beaten) if lines else "",
        "<h2>Images</h2>",
        resource("viewer.html"),
    ]
    for study in studies:
        own = [line for line in lines if line.key[0] == study.name]
        if not own:
            continue
        body.append(f"<h2>{text(study.title)}</h2>")
        for caption, header, cells in overviews(own):
            body += [f"<p>{text(caption)}</p>", table(header, cells)]
        body += [as_svg(figures[f"{study.name}-{kind}"]) for kind in FIGURES]
        body.append("<details><summary>All metrics</summary>")
        body += [table(*header_and_cells(own)), "</details>"]
        if study.left_out:
            names = "; ".join(f"{row} ({why})" for row, why in study.left_out.items())
            body.append(f"<p>Left out, as the prior does not know them: {text(names)}.</p>")
    body.append(f"<p>{text(NOTE)}</p>" if lines else "")
    body += [f"<p>{text(said)}.</p>" for said in facts["measures_left_out"]]
    body += ["<h2>The paper's claims</h2>", claims_list(found.claims)] if lines else []
    body += [f"<h2>{AGREEMENT}</h2>", agreement_table(lines)] if lines else []
    body += ["<h2>Lesions lost and invented</h2>", safety_table(found.safety)] if lines else []
    for name, stacks in made.items():
        header, cells = generation_lines(stacks)
        body += [f"<h2>Stacks from {text(name)}</h2>", table(header, cells)]
    if lines:
        body += ["<h2>Time</h2>", table(*times(lines))]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    body.append(f"<footer>{text(facts['machine'])}; {text(versions)}</footer>")
    page = resource("report.html")
    pictures = json.dumps(images(pictured)).replace("<", "\\u003c")
    return page.replace("<!-- body -->", "\n".join(body)).replace("/* images */ {}", pictures)


def first_screen(
    gains: Sequence[Gain],
    made: Mapping[str, Generation],
    facts: Mapping[str, Any],
    pictured: Pictured,
) -> str:
    """One sentence of result, a strip of images, and the comparison with references."""
    people, group = facts["input"]["patients"], facts["input"]["group"]
    sentence = result_sentence(gains, made, people, facts["who"].split(",")[0])
    found = [f"<h1>{text(sentence)}</h1>"]
    if gains and pictured.patients:
        shown = next((gain for gain in gains if gain.reference), gains[0])
        cells = "".join(
            f"<figure><img src='{cell.url}' alt='{text(cell.said)}' class='zooms'>"
            f"<figcaption>{text(cell.said)}</figcaption></figure>"
            for cell in strip_of(pictured, shown)
        )
        found.append(
            f"<div class='strip'>{cells}</div><p class='note'>{text(shown.name)}, number 1; "
            "PSNR of this slice.</p>"
        )
    if gains:
        header, cells_ = gain_table(gains)
        found.append(table(header, cells_[:FIRST]))
        if cells_[FIRST:]:
            more = f"{len(cells_) - FIRST} more"
            found.append(folded(more, table(header, cells_[FIRST:])))
    trained = ", trained on virtual people" if facts["prior_is_virtual"] else ""
    found.append(
        f"<p class='note'>{people} in the group {text(group)}: {text(facts['who'])}; "
        f"{facts['slices']} slices. Prior {text(facts['prior']['name'])} "
        f"({(facts['prior']['sha256'] or '-')[:8]}){trained}. Research software: not for clinical "
        "use.</p>"
    )
    found += [f"<p class='note'>{text(note)}.</p>" for note in facts["notes"]]
    if facts["unlike_training"]:
        found.append(f"<p class='note'>{text(told_of_strangers(facts['unlike_training']))}</p>")
    return "\n".join(found)


def told_of_strangers(unlike: Mapping[str, Mapping[str, list[str]]]) -> str:
    """Say in how many patients an image does not look like those of the training, and how."""
    ways = Counter(
        (m, said.partition(" is ")[0])
        for images in unlike.values()
        for m, found in images.items()
        for said in found
    )
    listed = "; ".join(f"{m}: {way} ({count})" for (m, way), count in ways.most_common())
    return (
        f"{len(unlike)} of these patients have images that do not look like those of the training, "
        f"so expect worse results than on such patients. Number of patients by image and respect: "
        f"{listed}. report.json has the values."
    )


def folded(summary: str, content: str) -> str:
    """A part of the page that a reader has to open."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def beaten_list(count: str, sentences: Sequence[str]) -> str:
    """The rows in which a simple reference is better."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    return f"<h2>{BEATEN}</h2><p>{text(count)}</p>" + (f"<ul>{items}</ul>" if items else "")


def agreement_table(lines: Sequence[Line]) -> str:
    """The residual of each reconstruction against its own measurement."""
    residuals = [line.residual for line in lines if line.residual is not None]
    if not residuals:
        return "<p>No result here has a noisy measurement of its own image to agree with.</p>"
    judged = [verdict(residual) for residual in residuals]
    count = "; ".join(f"{v}: {judged.count(v)} of {len(judged)}" for v in dict.fromkeys(judged))
    return f"<p>{count}. {text(RESIDUAL)} {text(NOT_SAFETY)}</p>" + table(*agreement(lines))


def verdict(residual: float) -> str:
    """A residual in words; 1 is that of the truth itself."""
    if residual > 1.5:
        return "does not explain its data"
    return "fits the noise, too" if residual < 0.7 else "agrees"


def safety_table(safety: Sequence[Safety]) -> str:
    """Lesions lost and spots invented."""
    if not safety:
        return (
            f"<p>No lesion masks, or no {SHOWS_LESIONS} judged: whether lesions are lost or "
            "invented is not measured.</p>"
        )
    cells = [
        [
            entry.key[1],
            entry.key[2],
            f"{len(entry.lost)} of {len(entry.lesions)}",
            sizes(entry.lost),
            f"{len(entry.invented)} in {entry.slices} slices",
            sizes(entry.invented),
        ]
        for entry in safety
    ]
    what = "<p>Lesions of the truth that the result lost, and bright spots that it invented:</p>"
    return what + table(["input", "method", "lost", "mm²", "invented", "mm²"], cells)


def sizes(areas: Sequence[float]) -> str:
    """Median and largest."""
    return f"{np.median(areas):.0f}, at most {max(areas):.0f}" if areas else ""


def claims_list(claims: Sequence[Claim]) -> str:
    """A line for each measured claim; the others are folded into one."""
    items = []
    for claim in claims:
        steps = "".join(
            f"<li>{text(step.what)}: {METRICS[step.metric][0]} "
            f"{said(step.found.mean, METRICS[step.metric][1])}{p_of(step)}</li>"
            for step in claim.steps
        )
        if steps:
            items.append(
                f"<details class='{claim.verdict.replace(' ', '-')}'><summary>{text(claim.text)}: "
                f"<b>{claim.decision}</b></summary><ul>{steps}</ul></details>"
            )
    others = [f"<li>{text(claim.text)}</li>" for claim in claims if not claim.steps]
    if others:
        items.append(folded(f"{len(others)} not measured here", f"<ul>{''.join(others)}</ul>"))
    return "".join(items)


def as_svg(figure: Figure | None) -> str:
    """A matplotlib figure as SVG inside the page."""
    if figure is None:
        return ""
    picture = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "any2all"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    svg = picture.getvalue()
    return f"<figure class='zooms'>{svg[svg.index('<svg') :]}</figure>"


def table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table. Each cell knows its column, because a phone shows a row as a list."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    rows = (
        "".join(
            f"<td data-of='{text(name)}'>{text(cell)}</td>"
            for name, cell in zip(header, row, strict=True)
        )
        for row in cells
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def resource(name: str) -> str:
    return files("any2all_eval").joinpath(f"page/{name}").read_text()


def text(words: str) -> str:
    """Text escaped for HTML."""
    return html.escape(words)
