"""The loss when a third of the training patients' images is missing, and the gain by two remedies.

    python bench/incomplete.py --data LGG --output runs/incomplete [--size 64] [--steps 4000]
                               [--patients N] [--way native]

LGG holds train/, val/ and test/ with <patient>/<modality>.nii.gz. Three priors are trained with the
same recipe and number of steps. The first has all images. The second has only the complete cases,
which are the patients who still have every modality. The third has all remaining images, in one of
two ways. ``native``: each modality has its own noise level, and an absent image is at T−1 and does
not enter the loss. ``filled``: there is one level for all, and ``any2all fill`` first draws the
absent images with the complete-case prior.

Of each training, the prior with the lowest loss on val is judged on test, where every patient has
all modalities. --patients takes this many patients of train, evenly spread. After an interruption,
the same command continues. The three trainings take 25 minutes each with 5000 steps at 48 x 48 on
one core.

``lost`` is the difference to training on all images, as a share of the loss by complete-case
training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from any2all_core import load_prior
from any2all_core.objective import validate
from any2all_data.store import CohortStore
from torch import Tensor

SHARE, SEED = 1 / 3, 0
EVERY = 3
"""Of the slices of a patient of test, every third is judged."""
STUDY = Path(__file__).parent / "studies/incomplete.toml"


def any2all(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "any2all_cli", *map(str, arguments)], check=True)


def spread(train: Path, count: int | None) -> list[str]:
    """This many of the patients, evenly spread; all of them if None."""
    names = sorted(path.name for path in train.iterdir() if path.is_dir())
    count = count or len(names)
    return [names[k * len(names) // count] for k in range(count)]


def thin_out(train: Path, patients: list[str]) -> dict[str, list[str]]:
    """{patient: modalities left}: a third of all images is removed, but each patient keeps one."""
    images = sorted((name, p.name) for name in patients for p in (train / name).glob("*.nii.gz"))
    images = [image for image in images if not image[1].startswith("lesion")]
    left: dict[str, list[str]] = {}
    for patient, name in images:
        left.setdefault(patient, []).append(name)
    random = np.random.default_rng(SEED)
    gone, goal = 0, round(len(images) * SHARE)
    for i in random.permutation(len(images)):
        patient, name = images[i]
        if gone < goal and len(left[patient]) > 1:
            left[patient].remove(name)
            gone += 1
    return left


def cohort_of(
    data: Path, output: Path, size: int, left: dict[str, list[str]], *, name: str
) -> Path:
    """A cohort of links to the images; ``left`` are the only images of train to include."""
    store = output / name
    source = store.with_suffix(".source")
    split: dict[str, list[str]] = {}
    for group in ("train", "val", "test"):
        for path in sorted((data / group).glob("*/*.nii.gz")):
            patient = path.parent.name
            if group == "train" and patient not in left:
                continue
            if patient not in split.setdefault(group, []):
                split[group].append(patient)
            if path.name.startswith("lesion") or (
                group == "train" and path.name not in left[patient]
            ):
                continue
            link = source / patient / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
    (output / "split.json").write_text(json.dumps(split))
    spacing = 1.875 * 128 / size
    any2all(
        *("prepare", source, store, "--no-register", "--split", output / "split.json"),
        *("--size", size, "--spacing", f"{spacing},{spacing},5"),
    )
    return store


def trained(data: Path, output: Path, steps: int, *options: str) -> Path:
    log = output / "log.jsonl"
    if log.exists() and json.loads(log.read_text().splitlines()[-1])["step"] == steps:
        return output
    resume = ["--resume"] if (output / "checkpoint.pt").exists() else []
    any2all(
        *("train", "--data", data, "--output", output, "--set", f"steps={steps}"),
        *options,
        *resume,
    )
    return output


def judge(folder: Path, cohort: Path, slices: Tensor) -> dict[str, float]:
    """Figures of a prior on the test patients: those of x̂_0 on their slices, and PSNR of STUDY."""
    figures = validate(load_prior(folder / "best"), slices)
    kept = {name: figures[name] for name in ("validation_loss", "psnr_t300", "psnr_t500")}
    output = folder / "evaluated"
    any2all(
        *("evaluate", STUDY, "--prior", folder / "best", "--input", cohort, "--output", output),
        *("--every", EVERY, "--no-references", "--batch-size", 32, "--shown", 0),
        *(("--resume",) if (output / "run.json").exists() else ()),
    )
    results = json.loads((output / "report.json").read_text())["results"]
    return kept | {line["key"][1]: line["means"]["psnr"]["value"] for line in results}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--output", type=Path, required=True)
    arguments.add_argument("--size", type=int, default=64)
    arguments.add_argument("--steps", type=int, default=4000)
    arguments.add_argument("--patients", type=int, help="of train [default: all]")
    arguments.add_argument("--way", choices=("native", "filled"), default="native")
    arguments.add_argument("--set", action="append", default=[], help="of the recipe: NAME=VALUE")
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    group = options.data / "train"
    patients = spread(group, options.patients)
    left = thin_out(group, patients)
    nothing_gone = {p: [path.name for path in (group / p).glob("*.nii.gz")] for p in patients}
    whole = cohort_of(options.data, options.output, options.size, nothing_gone, name="everything")
    thinned = cohort_of(options.data, options.output, options.size, left, name="thinned")
    counts = [sum(len(names) == n for names in left.values()) for n in (1, 2, 3)]
    print(f"{len(left)} training patients, with 1, 2, 3 modalities left: {counts}")
    levels = {"native": "separate", "filled": "shared"}[options.way]
    recipe = [f"--set={change}" for change in (f"levels={levels}", *options.set)]
    runs = {
        name: trained(data, options.output / f"run-{name}", options.steps, *recipe)
        for name, data in (("everything", whole), ("complete-case", thinned))
    }
    if options.way == "filled":
        any2all("fill", thinned, "--prior", runs["complete-case"] / "best", "--replace")
    runs[options.way] = trained(
        thinned, options.output / f"run-{options.way}", options.steps, *recipe, "--incomplete"
    )
    store = CohortStore.open(str(whole))
    names = load_prior(runs["everything"]).modalities
    slices = store.slices(store.having(names, "test"), names)
    figures = {name: judge(folder, whole, slices) for name, folder in runs.items()}
    print(f"\n| | everything | complete-case | {options.way} | lost |\n|---|---|---|---|---|")
    for row in figures["everything"]:
        full, cut, kept = (figures[name][row] for name in runs)
        print(
            f"| {row} | {full:.4g} | {cut:.4g} | {kept:.4g} | {(full - kept) / (full - cut):.2f} |"
        )
    (options.output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
