"""Which unit and which scale every image of a patient has."""

from __future__ import annotations

from collections.abc import Mapping

from any2all_core.stack_format import Range, StackFormat
from any2all_data.patient import Volume
from any2all_operators import Measured

OF_ITS_FILE = "as in its source"
FULL_SCALE = "normalised"
"""Units of MR images, which are arbitrary: of what is given or measured, and of what is missing, a
share of full scale."""


def scales(
    format_: StackFormat,
    volumes: Mapping[str, Volume],
    measured: Mapping[str, Measured],
    source: Mapping[str, str],
) -> tuple[dict[str, Range], dict[str, str]]:
    """The physical values that are 0 and 1 of every modality of the prior, and their unit.

    A missing modality is in the prior's unit whether or not the patient has a file of it: nothing
    of that file is known to the sampler, its scale neither.
    """
    ranges, units = {}, {}
    for modality in format_.modalities:
        m, fixed = modality.name, modality.range
        ranges[m], units[m] = fixed or Range(0.0, 1.0), FULL_SCALE
        if fixed is not None:
            units[m] = modality.unit
        elif source[m] != "missing":
            scan = measured.get(m)
            ranges[m] = volumes[m].range if scan is None else Range(0.0, scan.scale)
            units[m] = OF_ITS_FILE
        if m in measured:
            ranges[m] = Range(0.0, measured[m].scale)
    return ranges, units
