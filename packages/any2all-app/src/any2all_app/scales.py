"""Find the unit and the scale of each of a patient's images."""

from __future__ import annotations

from collections.abc import Mapping

from any2all_core.stack_format import Range, StackFormat
from any2all_data.patient import Volume
from any2all_operators import Measured

OF_ITS_FILE = "as in its source"
FULL_SCALE = "normalised"
"""Arbitrary units of MR: OF_ITS_FILE of given or measured images, FULL_SCALE of missing ones."""


def scales(
    format_: StackFormat,
    volumes: Mapping[str, Volume],
    measured: Mapping[str, Measured],
    source: Mapping[str, str],
) -> tuple[dict[str, Range], dict[str, str]]:
    """Return the physical values that become 0 and 1 of each of the prior's modalities, and units.

    A missing modality has the prior's unit, even if the patient has a file of it. The sampler must
    not know anything of that file, nor its scale.
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
