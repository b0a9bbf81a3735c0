"""docs/baselines.md: train a prior and every installed method with one budget, and compare them.

    python bench/baselines.py --data DATA (--images N | --minutes N) [--rates 1e-4,3e-4,1e-3]
        [--seeds 0,1] [--methods regressor,mmgan] [--recipe small] [--output runs/baselines]

DATA is a cohort, or a folder with the folders train, val and test of patients. With ``--images``,
the prior and every method are trained on the same number of examples. With ``--minutes``, each is
trained on as many as fit into that time at the speed of its first steps. The table gives both
numbers for each.

The learning rate of each method is the one of ``--rates`` that is best on ``val`` after a tenth of
the budget. If the whole budget with this rate ends worse than a part of it, the next lower rate is
taken. The prior keeps the rate of its recipe, and so does the regressor, which is trained in the
same way.

Then ``any2all evaluate reconstruction synthesis generation`` judges all of them on ``test``, and
its results are written between the marks of the document. After an interruption, the same command
continues. Every step is a command, which is printed and can be typed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from any2all_core.recipe import read_recipe
from any2all_core.registry import find_plugin, list_plugins
from any2all_data.store import is_cohort
from any2all_eval.documents import markdown_table

DOCUMENT = Path(__file__).parent.parent / "docs/baselines.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
STUDIES = ("reconstruction", "synthesis", "generation")
SPEED_STEPS = 30
TUNED_ON = 0.1
"""The share of the budget that each rate is tried with."""
PRIOR = "prior"
LOST = 1.25
"""A run whose held-out loss ends this many times above its least has lost what it had learnt."""


@dataclass(frozen=True)
class Budget:
    """A number of examples, or as many as fit into a number of minutes."""

    images: int | None
    minutes: float | None

    def steps(self, batch: int, images_per_second: float) -> int:
        images = self.images or int(60 * (self.minutes or 0) * images_per_second)
        return max(1, images // batch)


@dataclass(frozen=True)
class Bench:
    """The folders and settings of the comparison."""

    data: str
    output: Path
    recipe: str
    budget: Budget

    def train(self, name: str, folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
        """Train the prior or a method, or resume it; returns the facts about its training."""
        what = (
            ("--recipe", self.recipe)
            if name == PRIOR
            else ("--recipe", self.recipe, "--method", name)
        )
        settings = [text for k, v in changes.items() for text in ("--set", f"{k}={v}")]
        if not (folder / "done").exists():
            resume = (folder / "checkpoint.pt").exists()
            told = ("--resume",) if resume else (*what, *settings)
            any2all("train", *told, *self.where, "--output", folder)
            (folder / "done").touch()
        return said_of(folder)

    @property
    def where(self) -> tuple[str, ...]:
        if is_cohort(self.data):
            return ("--data", self.data)
        return ("--data", f"{self.data}/train", "--validation", f"{self.data}/val")

    def speed(self, name: str, batch: int) -> float:
        """Images per second in its first steps; needed only if the budget is a time."""
        if self.budget.images:
            return 0.0
        folder = self.output / "speed" / name
        made = self.train(name, folder, {"steps": SPEED_STEPS, "warmup": 1})
        return batch * SPEED_STEPS / max(float(made["seconds"]), 1e-6)

    def rates(self, name: str, rates: list[str], steps: int) -> list[str | None]:
        """The rate that is best on val after a share of the steps, and those below it."""
        if not rates or keeps_its_rate(name):
            return [None]
        found = {}
        for rate in rates if len(rates) > 1 else []:
            folder = self.output / "tuning" / f"{name}-{rate}"
            changes = {"steps": max(1, int(TUNED_ON * steps)), "learning_rate": rate}
            self.train(name, folder, changes)
            found[rate] = float(said_of(folder / "best")["validation_loss"])
        best = min(found, key=lambda rate: found[rate]) if found else rates[0]
        below = sorted((r for r in rates if float(r) <= float(best)), key=float, reverse=True)
        return [*below]

    def trained(
        self, name: str, seed: str, steps: int, rates: list[str | None]
    ) -> tuple[Path, str | None]:
        """The run with the first of the rates that does not lose what it learnt, and that rate."""
        for rate in rates:
            folder = self.output / (f"{name}-{seed}" if rate is None else f"{name}-{seed}-{rate}")
            changes: dict[str, Any] = {"steps": steps, "seed": seed}
            made = self.train(name, folder, changes | ({"learning_rate": rate} if rate else {}))
            least = float(said_of(folder / "best")["validation_loss"])
            if float(made["validation_loss"]) <= LOST * least:
                break
        return folder, rate


def any2all(*words: object) -> None:
    """Print and run a command of any2all."""
    command = ["-m", "any2all_cli", *map(str, words)]
    print("any2all", shlex.join(command[2:]), flush=True)
    subprocess.run([sys.executable, *command], check=True)


def said_of(folder: Path) -> dict[str, Any]:
    """The facts that a prior or a method keeps about its training."""
    path = next(p for n in ("prior.json", "method.json") if (p := folder / n).exists())
    training: dict[str, Any] = json.loads(path.read_text())["training"]
    return training


def batch_of(name: str, recipe: str) -> int:
    """The number of examples per step."""
    if name == PRIOR:
        return read_recipe(recipe).batch_size
    cls = find_plugin("any2all.methods", name).load()
    return int(cls.presets.get(recipe, {}).get("batch_size", cls.batch_size))


def keeps_its_rate(name: str) -> bool:
    """Whether it is trained with the rates of its recipe: the prior, and methods that use Muon."""
    return name == PRIOR or hasattr(find_plugin("any2all.methods", name).load(), "matrix_rate")


def budgets(made: dict[str, dict[str, Any]], rates: dict[str, str | None]) -> str:
    """The budget of each, and its result on val, as a Markdown table."""
    rows = []
    for folder, training in made.items():
        figure = next((k for k in ("psnr_missing", "psnr_target") if k in training), "")
        psnr = f"{training[figure]:.2f} ({figure.removeprefix('psnr_')})" if figure else ""
        minutes = f"{float(training['seconds']) / 60:.1f}"
        rate = rates.get(folder) or "its recipe's"
        rows.append([folder, str(training["steps"]), str(training["images"]), minutes, rate, psnr])
    heads = ["", "steps", "images", "minutes", "rate", "PSNR on val (dB)"]
    return "\n".join(markdown_table(heads, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--images", type=int)
    amount.add_argument("--minutes", type=float)
    parser.add_argument("--rates", default="", help="tried for each method, by commas")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--methods", default="", help="by commas [default: all installed]")
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--slices", type=int, help="of each patient of test [default: all]")
    parser.add_argument("--output", type=Path, default=Path("runs/baselines"))
    asked = parser.parse_args()
    bench = Bench(asked.data, asked.output, asked.recipe, Budget(asked.images, asked.minutes))
    names = [n for n in asked.methods.split(",") if n]
    names = names or [plugin.name for plugin in list_plugins("any2all.methods")]
    rates = [r for r in asked.rates.split(",") if r]
    made, chosen = {}, {}
    for name in (PRIOR, *names):
        batch = batch_of(name, asked.recipe)
        steps = bench.budget.steps(batch, bench.speed(name, batch))
        tried = bench.rates(name, rates, steps)
        for seed in asked.seeds.split(",") if name != PRIOR else ["0"]:
            folder, rate = bench.trained(name, seed, steps, tried)
            made[folder.name], chosen[folder.name] = said_of(folder), rate
    prior = next(folder for folder in made if folder.startswith(PRIOR))
    methods = [word for f in made if f != prior for word in ("--method", bench.output / f)]
    judged = bench.output / "evaluated"
    limits = ["--slices", asked.slices] if asked.slices else []
    resume = ["--resume"] if (judged / "run.json").exists() else []
    any2all(
        *("evaluate", *STUDIES, "--prior", bench.output / prior, *methods, *limits, *resume),
        *("--input", asked.data, "--sampler", "mds", "--output", judged),
    )
    found = budgets(made, chosen) + "\n\n" + (judged / "tables.md").read_text()
    print(found)
    text = DOCUMENT.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{found}\n{END}{after}")


if __name__ == "__main__":
    main()
