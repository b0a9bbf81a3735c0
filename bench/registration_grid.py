"""Registration of CT and PET to T1 from a grid of starts, on virtual people, and wrong poses.

    python bench/registration.py --virtual FOLDER [--people 3,5,8] [--modalities CT,PET]

Each person's images are drawn into FOLDER once. Every registration, and every pose known to be
wrong, is a line of FOLDER/poses.jsonl; lines that exist are not computed again. Errors are
displacements over the head of T1 in mm. People take turns, so that a part of the grid already holds
all kinds.

Wrong poses are local optima. The similarity is optimised from poses that are moved by 12 to 40 mm
and rotated by 12 to 40 degrees away from the truth. The result is a wrong pose if it is more than 2
mm from the truth. Such a pose is the hardest to detect, because it looks better than all poses near
it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from any2all_data import registration
from any2all_data.kinds import kind_of
from any2all_data.pose_search import refined
from any2all_data.registration import (
    head_mask,
    quality_threshold,
    reference_grid,
    register,
)
from any2all_data.resampling import cubes
from any2all_data.similarity import Similarity
from displaced import VARIANTS, Start, person, scan, starts
from nibabel.affines import apply_affine
from rich.progress import track

COLUMNS = (
    "starts",
    "registrations",
    "median error",
    "within 1 mm",
    "worst",
    "accepted",
    "worst accepted",
    "least quality within 1 mm",
    "seconds",
)
# mm, degrees, of wrong poses
AWAY = (
    (12, 0),
    (0, 12),
    (20, 15),
    (40, 0),
    (0, 40),
    (25, 25),
    (15, 30),
)


def register_from_grid(
    folder: Path, people: Sequence[int], modalities: Sequence[str], wrong: bool
) -> None:
    """Compute what is missing, and print the tables of all results."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "poses.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    there = {(d["person"], d["modality"], d["number"], d["wrong"]) for d in done}
    tasks = [t for t in _tasks(people, modalities, wrong) if t not in there]
    heads = dict[int, tuple[dict[str, nib.Nifti1Image], np.ndarray]]()
    with log.open("a") as file:
        for seed, modality, number, is_wrong in track(tasks, "registrations"):
            if seed not in heads:
                heads[seed] = _head(person(seed, folder))
            start = starts(modality)[number]
            pose = _wrong_poses if is_wrong else _found
            for values in pose(*heads[seed], modality, start):
                line = {"person": seed, "modality": modality, "number": number, "wrong": is_wrong}
                done.append({**line, **values})
                file.write(json.dumps(done[-1]) + "\n")
            file.flush()
    for modality in modalities:
        _print([d for d in done if d["modality"] == modality and d["person"] in people], modality)


def _tasks(
    people: Sequence[int], modalities: Sequence[str], wrong: bool
) -> Iterator[tuple[int, str, int, bool]]:
    for turn in range(len(people)):
        for number in range(max(len(starts(m)) for m in modalities)):
            for modality in modalities:
                if number < len(starts(modality)):
                    seed = people[(number + turn) % len(people)]
                    yield seed, modality, number, False
                    if wrong and number % 6 == 1:
                        yield seed, modality, number, True


def _head(
    images: dict[str, nib.Nifti1Image],
) -> tuple[dict[str, nib.Nifti1Image], np.ndarray]:
    """The images, and points in the head of T1."""
    grid = reference_grid(images["T1"], (4.0, 4.0, 4.0), (52, 60, 45))
    return images, apply_affine(grid.affine, np.argwhere(_array(head_mask(grid)))[::7])


def _found(
    images: dict[str, nib.Nifti1Image], points: np.ndarray, modality: str, start: Start
) -> Iterator[dict[str, Any]]:
    moving = scan(images[modality], modality, start)
    begin = time.perf_counter()
    grid = reference_grid(images["T1"], (4.0, 4.0, 4.0), (52, 60, 45))
    found = register(moving, images["T1"], grid, kinds=(kind_of(modality), kind_of("T1")))
    seconds = time.perf_counter() - begin
    yield {**_error(found.matrix, start, points), "quality": found.quality, "seconds": seconds}


def _wrong_poses(
    images: dict[str, nib.Nifti1Image], points: np.ndarray, modality: str, start: Start
) -> Iterator[dict[str, Any]]:
    moving, t1 = scan(images[modality], modality, start), images["T1"]
    kinds = kind_of(modality), kind_of("T1")
    pair = registration._pair(moving, t1, kinds)
    fixed, move = (cubes(image, 4.0) for image in pair.images)
    rough, figure = (
        Similarity(fixed, move, pair.heads[0], seed=0, samples=10_000),
        pair.similarity(0),
    )
    for k, (mm, degrees) in enumerate(AWAY):
        away = start.matrix @ Start("whole", mm, degrees, 100 * start.number + k).matrix
        (pose,) = refined([away], rough, (8.0, 4.0))
        error = _error(pose, start, points)
        if error["mean"] > 2:
            yield {**error, "quality": figure.quality(pose), "seconds": 0.0}


def _error(matrix: np.ndarray, start: Start, points: np.ndarray) -> dict[str, float]:
    there = apply_affine(matrix, points) - apply_affine(start.matrix, points)
    distance = np.linalg.norm(there, axis=1)
    return {"mean": float(distance.mean()), "max": float(distance.max())}


def _print(done: Sequence[dict[str, Any]], modality: str) -> None:
    threshold = quality_threshold((kind_of(modality), kind_of("T1")))
    print(f"\n{modality} to T1, threshold {threshold:g}")
    print(
        "| starts | registrations | mean error | within 1 mm | worst | accepted | worst accepted ",
        end="",
    )
    print(f"| least quality within 1 mm | seconds |\n|{'---|' * 9}")
    found = [d for d in done if not d["wrong"]]
    of = {variant: [d for d in found if _variant(d) == variant] for variant in VARIANTS}
    for name, rows in {**of, "all": found}.items():
        if rows:
            print(f"| {name} | {_row(rows, threshold)} |")
    wrong = [d["quality"] for d in done if d["wrong"]]
    if wrong:
        top = ", ".join(f"{q:.3f}" for q in sorted(wrong)[-5:])
        print(f"{len(wrong)} wrong poses (more than 2 mm off): the largest qualities {top}")


def _row(rows: Sequence[dict[str, Any]], threshold: float) -> str:
    errors = np.array([d["mean"] for d in rows])
    accepted = np.array([d["quality"] >= threshold for d in rows])
    right = [d["quality"] for d in rows if d["mean"] <= 1]
    values = (
        str(len(rows)),
        f"{np.median(errors):.2f}",
        f"{int((errors <= 1).sum())} ({100 * (errors <= 1).mean():.0f} %)",
        f"{errors.max():.2f}",
        str(int(accepted.sum())),
        f"{errors[accepted].max():.2f}" if accepted.any() else "-",
        f"{min(right):.3f}" if right else "-",
        f"{np.median([d['seconds'] for d in rows]):.0f}",
    )
    return " | ".join(values)


def _variant(line: dict[str, Any]) -> str:
    return starts(line["modality"])[line["number"]].variant


def _array(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)
