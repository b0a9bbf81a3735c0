"""The error of a missing CT or PET in its unit, beside that of the best constant."""

from __future__ import annotations

from any2all_data.coverage import covered, in_head
from torch import Tensor

from any2all_app.measurement import PatientMeasurement
from any2all_app.report_format import ErrorReport


def error_of(measurement: PatientMeasurement, name: str, mean: Tensor) -> ErrorReport | None:
    """Return the mean absolute errors of a modality and of a constant, inside the head.

    ``mean`` is (B, M, H, W) in [0, 1]. The constant is the median of the truth, which is the best
    one. No simpler image is known without training patients, so a result that is not nearer tells
    nothing. Returns None for MR, which has no unit, and if no head is seen.
    """
    values, truth = measurement.format[name].range, measurement.truth[name]
    head = in_head(mean) & covered(truth[:, None])[:, None, None]
    if values is None or not head.any():
        return None
    width = values.high - values.low
    image, there = mean[:, measurement.operator.modalities.index(name)][head], truth[head]

    def mae(error: Tensor) -> float:
        return round(width * float(error.abs().mean()), 4)

    return {
        "unit": measurement.units[name],
        "mae": mae(image.clamp(0, 1) - there),
        "mae_constant": mae(there.median() - there),
    }
