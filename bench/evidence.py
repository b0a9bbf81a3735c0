"""docs/evidence/measured.md: the results of the shipped priors, on virtual and on real people.

    python bench/evidence.py --lgg LGG [--people COHORT] [--output runs/evidence] [--processes N]
                             [--slices N]

LGG holds train/, val/ and test/ with <patient>/<modality>.nii.gz. COHORT is the cohort that
`virtual` was trained on. If it is not given, it is drawn again:

    any2all prepare --virtual 225 --size 112,96 --spacing 2,2,3 COHORT

In both data sets, people of ``test`` are judged, whom the prior has never seen. References are
tuned on ``val``. After an interruption, the same command continues. Every process computes on one
thread in float32, and each patient separately, so any number of processes gives the same digits on
the same kind of processor. No picture of a real patient is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from any2all_eval.claims import SIGNIFICANT, Claim, Step
from any2all_eval.documents import markdown_table
from any2all_eval.evaluation import VIRTUAL
from any2all_eval.statistics import Difference, Mean
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
HEAD = """# Evidence: every figure

`python bench/evidence.py` writes this whole page. Another page says [what follows from
it](../evidence.md).

"""
SAMPLERS = ("--sampler", "mds", "--sampler", "mcs", "--sampler", "mps:steps=50")
SCENE = str(Path(__file__).parent / "studies/scene.toml")
RUNS: dict[str, tuple[str, ...]] = {
    "reconstruction": ("reconstruction", *SAMPLERS),
    "synthesis": ("synthesis", *SAMPLERS, "--sampler", "mean"),
    "mixed": ("mixed", SCENE),
    "drawn": ("generation",),
}
"""{run: its studies and options}: MPS, which costs most, where the paper's claims compare it."""
PEOPLE = {"virtual": 20, "lgg": 10}
"""Patients of ``test``. Wilcoxon's p of n patients is at least 2/2^n, so 8 refute no claim that
rests on more than six differences."""
COLUMNS = {"virtual": "virtual people, simulated", "lgg": "real patients"}


def evaluated(
    prior: str, run: str, people: Path, output: Path, *, processes: int, slices: int
) -> None:
    """Run ``any2all evaluate``, or resume it; draws from nothing are compared with everybody."""
    processes = 1 if run == "drawn" else min(processes, PEOPLE[prior])
    limits = () if run == "drawn" else ("--patients", PEOPLE[prior], "--slices", slices)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc_per_node={processes}", "-m", "any2all_cli", "evaluate", *RUNS[run], *limits),
        *("--prior", prior, "--input", people, "--output", output, "--precision", "float32"),
        *(() if run == "drawn" else ("--batch-size", 1)),
        *(("--resume",) if (output / "run.json").exists() else ()),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], check=True, env=environment)


def sections(output: Path) -> dict[str, str]:
    """{heading: text} of the tables of a run."""
    parts = (output / "tables.md").read_text().split("## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def of_prior(prior: str, output: Path) -> list[str]:
    """The part of the document about a prior; pictures go to docs/evidence."""
    facts = report_of(output, prior, "reconstruction")
    text = [
        f"## `{prior}`: {facts['who']}\n",
        f"{facts['input']['patients']} of {facts['input']['group']}, {facts['slices']} slices.\n",
    ]
    pictures: dict[str, tuple[Path, str]] = {}
    for run in RUNS:
        folder = output / f"{prior}-{run}"
        for heading, table in sections(folder).items():
            if heading == "The paper's claims":
                text += ["<details><summary>Every difference behind the claims</summary>\n"]
                text += [table, "\n</details>\n"]
            elif heading != "Time":
                text += [f"### {heading}\n", table, ""]
        for sheet in folder.glob("draws/*/*/sheet.png"):
            pictures["draws"] = sheet, "drawn from nothing: synthetic images, nobody's"
        for figure in sorted((folder / "figures").glob("*.png")):
            plot = figure.stem.endswith(("-curves", "-scatter"))
            if plot or facts["who"] == VIRTUAL:
                pictures[figure.stem] = figure, figure.stem.replace("-", ": ", 1)
    target = DOCS / "evidence"
    for name, (path, caption) in pictures.items():
        few = Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(target / f"{prior}-{name}.png", optimize=True)
        text += [f"![{caption}]({prior}-{name}.png)\n", f"*{caption}*\n"]
    return text


def claims(output: Path, priors: Sequence[str]) -> list[str]:
    """A line for each claim: its verdict on the people of each prior, over all runs."""
    lines: dict[str, list[str]] = {}
    for prior in priors:
        steps: dict[str, list[Step]] = {}
        for run in RUNS:
            for claim in report_of(output, prior, run)["claims"]:
                steps.setdefault(claim["text"], []).extend(map(step_of, claim["steps"]))
        for text, found in steps.items():
            lines.setdefault(text, []).append(told(Claim(text, tuple(found))))
    header = ["the paper's claim", *(f"`{p}`: {COLUMNS[p]}" for p in priors)]
    return markdown_table(header, [[text, *cells] for text, cells in lines.items()])


def step_of(kept: dict[str, Any]) -> Step:
    """As a report keeps it."""
    found = kept["found"]
    value, low, high = (number(found["mean"][k]) for k in ("value", "low", "high"))
    mean = Mean(value, low, high, found["mean"]["patients"])
    return Step(kept["what"], kept["metric"], Difference(mean, number(found["p"])))


def number(kept: float | None) -> float:
    """The value, or NaN for what JSON keeps as null."""
    return math.nan if kept is None else kept


def told(claim: Claim) -> str:
    """**holds**: of 12 differences 12 are above 0 (11 with p < 0.05), 0 below (0)."""
    if not claim.steps:
        return "not measured"
    found = [step.found for step in claim.steps]
    above, below = ([f for f in found if sign * f.mean.value > 0] for sign in (1, -1))
    sure = [sum(f.p < SIGNIFICANT for f in side) for side in (above, below)]
    return (
        f"**{claim.decision}**: of {len(found)} differences {len(above)} are above 0 ({sure[0]} "
        f"with p < {SIGNIFICANT:g}), {len(below)} below ({sure[1]})"
    )


def report_of(output: Path, prior: str, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / f"{prior}-{run}" / "report.json").read_text())
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--lgg", type=Path, help="left out: virtual people alone")
    arguments.add_argument("--people", type=Path, help="[default: drawn into OUTPUT/people]")
    arguments.add_argument("--output", type=Path, default=Path("runs/evidence"))
    arguments.add_argument("--processes", type=int, default=os.cpu_count())
    arguments.add_argument("--slices", type=int, default=1, help="of each patient, in the middle")
    arguments.add_argument("--only", choices=[*PEOPLE], help="compute this one, write nothing")
    options = arguments.parse_args()
    people = options.people or options.output / "people"
    inputs = {"virtual": people} | ({"lgg": options.lgg} if options.lgg else {})
    if options.only in (None, "virtual") and not options.people:
        grid = ("--size", "112,96", "--spacing", "2,2,3")
        command = [sys.executable, "-m", "any2all_cli", "prepare", "--virtual", "225", *grid]
        subprocess.run([*command, str(people)], check=True)
    for prior in [options.only] if options.only else inputs:
        for run in RUNS:
            folder = options.output / f"{prior}-{run}"
            folder.parent.mkdir(parents=True, exist_ok=True)
            width = {"processes": options.processes, "slices": options.slices}
            evaluated(prior, run, inputs[prior], folder, **width)
    if options.only:
        return
    shutil.rmtree(DOCS / "evidence", ignore_errors=True)
    (DOCS / "evidence").mkdir()
    text = ["## The claims\n", *claims(options.output, list(inputs)), ""]
    for prior in inputs:
        text += of_prior(prior, options.output)
    facts = report_of(options.output, next(iter(inputs)), "reconstruction")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text += ["## Time\n", f"{facts['machine']} in each process; {versions}\n"]
    for prior in inputs:
        for run in RUNS:
            if time := sections(options.output / f"{prior}-{run}").get("Time"):
                text += [f"`{prior}`, {run}:\n", time, ""]
    (DOCS / "evidence/measured.md").write_text(HEAD + "\n".join(text).rstrip() + "\n")


if __name__ == "__main__":
    main()
