"""The example plugins on real patients: FLAIR restored with the prior, beside the classical answer.

    pip install examples/plugins/any2all-{deblur,superres,radial,ct}
    python bench/plugins.py --data LGG [--prior lgg] [--group test] [--every 6]

The measurement is simulated from FLAIR with the plugin's own noise; T1 is given. The classical
answer is least squares with Tikhonov's penalty, argmin w/2 ‖A x − y‖² + 1/2 ‖x‖² (for blur that is
Wiener's filter), its w the best of WEIGHTS on val. Every figure is the mean over patients of the
mean over their slices; PSNR has data range 1. CT stands in for itself with an MR image.
"""

from __future__ import annotations

import numpy as np
import torch
from any2all_app.grammar import modality_specs
from any2all_app.measurement import build_operator
from any2all_core import load_prior, reconstruct, simulate
from any2all_operators import BlockDiagonal, Identity, Operator
from phase import parser
from reconstruction import Patient, read, score
from torch import Tensor

WEIGHTS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
CASES = (
    "deblur:sigma=2",
    "deblur:kind=motion:length=9:angle=30",
    "superres:columns=4",
    "superres:rows=2:columns=2",
    "radial:spokes=30",
    "ct:views=30",
)


def classical(operator: Operator, y: Tensor, like: Tensor, weight: float) -> Tensor:
    return operator.prox(y, torch.zeros_like(like), weight)


def main() -> None:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--cases", nargs="*", default=CASES)
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    flair = prior.modalities.index("FLAIR")
    patients = read(options.data / options.group, prior.modalities, options.every, options.limit)
    val = read(options.data / "val", prior.modalities, 12, 3)
    print(f"{'':40}{'classical':>16}{'any2all':>16}{'w':>8}")
    for case in options.cases:
        (spec,) = modality_specs(f"FLAIR={case}")
        operator = build_operator(spec, *prior.settings.image_size).operator

        def measured(patient: Patient, operator: Operator = operator) -> Tensor:
            truth = patient.stack[:, flair : flair + 1]
            return simulate(BlockDiagonal({"FLAIR": operator}), truth, patient.seed)["FLAIR"]

        def quality(weight: float, operator: Operator = operator) -> float:
            truths = [p.stack[:, flair] for p in val]
            answers = [
                classical(operator, measured(p), truth, weight)
                for p, truth in zip(val, truths, strict=True)
            ]
            return float(np.mean([score(u, x)[0] for u, x in zip(answers, truths, strict=True)]))

        best = max(WEIGHTS, key=quality)
        plain, ours = [], []
        for patient in patients:
            truth, y = patient.stack[:, flair], measured(patient)
            plain.append(score(classical(operator, y, truth, best), truth))
            block = BlockDiagonal({"T1": Identity(), "FLAIR": operator})
            data = {"T1": patient.stack[:, prior.modalities.index("T1")], "FLAIR": y}
            x = reconstruct(prior, block, data, seed=patient.seed)[0, :, flair]
            ours.append(score(x, truth))
        a, b = np.mean(plain, 0), np.mean(ours, 0)
        print(f"{case:40}{a[0]:8.2f} / {a[1]:.3f}{b[0]:8.2f} / {b[1]:.3f}{best:8g}", flush=True)


if __name__ == "__main__":
    main()
