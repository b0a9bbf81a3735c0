"""Quality on held-out patients: MDS and MPS beside references without a prior, in one run.

    python bench/reconstruction.py --data LGG [--prior lgg] [--group test] [--every 3]

LGG holds train/, val/ and test/ with <patient>/<modality>.nii.gz. Every figure is the mean over
patients of the mean over their slices (every EVERY-th slice that shows a head). k-space is
simulated: R = 4, 8 coils, 8 calibration lines, noise std 0.01 (one real component, images in
[0, 1]). PSNR has data range 1, as has SSIM; PSNR/max is against each slice's own maximum.
λ of L1-wavelet is tuned on val. SigPy's answers are complex; their real part is scored, as the
images are real.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from any2all_app.grammar import sampler_of
from any2all_core import load_prior, reconstruct, simulate
from any2all_data import KSpace, read_patient, to_stack
from any2all_data.cohort import covered, read_slices
from any2all_data.metrics import psnr, ssim
from any2all_data.patients import Patients
from any2all_eval.classical import cg_sense, l1_wavelet, tuned
from any2all_eval.references import regression
from any2all_operators import BlockDiagonal, Identity, Operator, SenseFourier
from torch import Tensor

SCAN = KSpace(acceleration=4, coils=8, acs_lines=8, noise_std=0.01)


@dataclass(frozen=True)
class Patient:
    """A patient's chosen slices, (B, M, H, W) in [0, 1], and the seed of all that is random."""

    seed: int
    stack: Tensor


@dataclass(frozen=True)
class Row:
    """One line of the table: which modalities are known, how, and which are scored."""

    name: str
    clean: tuple[str, ...]
    measured: tuple[str, ...]
    scored: tuple[str, ...]


ROWS = (
    Row("FLAIR k-space", (), ("FLAIR",), ("FLAIR",)),
    Row("FLAIR k-space + T1", ("T1",), ("FLAIR",), ("FLAIR",)),
    Row("FLAIR k-space + T1 & T1Gd", ("T1", "T1Gd"), ("FLAIR",), ("FLAIR",)),
    Row("all as k-space", (), ("T1", "FLAIR", "T1Gd"), ("T1", "FLAIR", "T1Gd")),
    Row("FLAIR from T1", ("T1",), (), ("FLAIR",)),
    Row("FLAIR from T1 & T1Gd", ("T1", "T1Gd"), (), ("FLAIR",)),
)


def folders(data: Path) -> list[Path]:
    """The folders of its patients."""
    return [Path(path) for path in Patients.at(data).everybody.values()]


def read(folder: Path, modalities: tuple[str, ...], every: int, limit: int | None) -> list[Patient]:
    patients = []
    for seed, path in enumerate(folders(folder)[:limit]):
        stack = to_stack(read_patient(path, modalities))
        patients.append(Patient(seed, stack[covered(stack)][::every]))
    return patients


def score(image: Tensor, truth: Tensor) -> np.ndarray:
    """PSNR, SSIM and PSNR against each slice's maximum: (3,), means over slices."""
    image = image.clamp(0, 1)
    ratio = psnr(image, truth)
    peak = 20 * truth.amax((1, 2)).log10()
    return np.array([ratio.mean(), ssim(image, truth).mean(), (ratio + peak).mean()], dtype=float)


def k_space(patient: Patient, modalities: tuple[str, ...], scan: Operator) -> dict[str, Tensor]:
    """The same k-space of every modality for every method and row."""
    return simulate(BlockDiagonal({m: scan for m in modalities}), patient.stack, patient.seed)


class Table:
    """Prints a line as soon as it is known, and keeps it."""

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []
        print(f"| input | method | image | PSNR | SSIM | PSNR/max | s |\n|{'---|' * 7}", flush=True)

    def add(
        self, row: str, method: str, image: str, scores: list[np.ndarray], seconds: float
    ) -> None:
        mean = np.mean(scores, 0)
        figures = dict(zip(("psnr", "ssim", "psnr_max"), mean.round(4).tolist(), strict=True))
        self.records.append({"row": row, "method": method, "image": image} | figures)
        print(
            f"| {row} | {method} | {image} | {mean[0]:.2f} | {mean[1]:.3f} | {mean[2]:.2f} | "
            f"{seconds:.0f} |",
            flush=True,
        )


def references(
    table: Table,
    data: Path,
    patients: list[Patient],
    modalities: tuple[str, ...],
    scan: SenseFourier,
) -> None:
    """Zero-filled, CG-SENSE and L1-wavelet of each modality; mean image and regressions."""
    val = read(data / "val", modalities, 12, None)
    for m, name in enumerate(modalities):
        data_of_val = [k_space(p, modalities, scan)[name] for p in val]
        weight = tuned(l1_wavelet, scan, data_of_val, [p.stack[:, m] for p in val])
        measured = [k_space(p, modalities, scan)[name] for p in patients]
        methods: dict[str, Callable[[Tensor], Tensor]] = {
            "zero-filled": scan.adjoint,
            "CG-SENSE (SigPy)": cg_sense(scan),
            f"L1-wavelet (SigPy, λ {weight})": l1_wavelet(scan, weight),
        }
        for method, solve in methods.items():
            start = time.perf_counter()
            results = [solve(y) for y in measured]
            seconds = time.perf_counter() - start
            scores = [score(u, p.stack[:, m]) for u, p in zip(results, patients, strict=True)]
            table.add(f"{name} k-space", method, name, scores, seconds)
    train = read_slices(folders(data / "train"), modalities)
    flair = modalities.index("FLAIR")
    mean = train[:, flair].mean(0)
    scores = [score(mean.expand_as(p.stack[:, flair]), p.stack[:, flair]) for p in patients]
    table.add("nothing", "mean training image", "FLAIR", scores, 0)
    for inputs in (("T1",), ("T1", "T1Gd")):
        predict = regression(train, [modalities.index(name) for name in inputs], flair)
        scores = [score(predict(p.stack), p.stack[:, flair]) for p in patients]
        table.add(f"FLAIR from {' & '.join(inputs)}", "per-pixel regression", "FLAIR", scores, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prior", default="lgg")
    parser.add_argument("--group", default="test", choices=["val", "test"])
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--patients", type=int, help="only the first PATIENTS")
    parser.add_argument("--rows", default="0,1,2,3,4,5", help="which of the six rows, from 0")
    parser.add_argument("--samplers", default="mds", help="NAME[:OPTION=VALUE...],...")
    parser.add_argument("--compare", default="mps:steps=100", help="samplers shown on row 1 only")
    parser.add_argument("--draws", type=int, default=1, help="score the mean of so many draws")
    parser.add_argument("--no-references", action="store_true")
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    modalities = prior.modalities
    scan = SCAN.build(*prior.settings.image_size)
    assert isinstance(scan, SenseFourier)
    group = arguments.data / arguments.group
    patients = read(group, modalities, arguments.every, arguments.patients)
    slices = sum(len(p.stack) for p in patients)
    print(f"{slices} slices of {len(patients)} {arguments.group} patients\n")
    table = Table()
    if not arguments.no_references:
        references(table, arguments.data, patients, modalities, scan)
    rows = [ROWS[int(n)] for n in arguments.rows.split(",")]
    runs = [(text, row) for text in arguments.samplers.split(",") if text for row in rows]
    runs += [(text, ROWS[1]) for text in arguments.compare.split(",") if text]
    for text, row in runs:
        chosen = sampler_of(text)
        blocks = {m: scan if m in row.measured else Identity() for m in row.measured + row.clean}
        scores: dict[str, list[np.ndarray]] = {name: [] for name in row.scored}
        start = time.perf_counter()
        for patient in patients:
            truth = dict(zip(modalities, patient.stack.unbind(1), strict=True))
            known = k_space(patient, modalities, scan) | {m: truth[m] for m in row.clean}
            known = {m: known[m] for m in blocks}
            operator = BlockDiagonal(blocks)
            draws = reconstruct(
                prior, operator, known, chosen, seed=patient.seed, draws=arguments.draws
            )
            stack = draws.mean(0)
            for name in row.scored:
                scores[name].append(score(stack[:, modalities.index(name)], truth[name]))
        seconds = time.perf_counter() - start
        for name, figures in scores.items():
            method = f"{text} ({chosen.steps} calls)"
            if arguments.draws > 1:
                method += f", mean of {arguments.draws}"
            table.add(row.name, method, name, figures, seconds)
    print("\n" + json.dumps(table.records))


if __name__ == "__main__":
    main()
