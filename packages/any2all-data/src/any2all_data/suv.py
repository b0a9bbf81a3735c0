"""Compute the SUV by body weight of a PET in DICOM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from any2all_operators import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

PHILIPS_CREATOR, PHILIPS_SUV, PHILIPS_ACTIVITY = 0x70530010, 0x70531000, 0x70531009
"""Philips' private tags: their creator, and the factors from counts to SUV in g/ml and to Bq/ml."""
LONGEST = 10
"""Largest plausible number of half-lives from the injection to the scan."""
LEAST_DOSE = 1e4
"""Smallest plausible dose in Bq. A smaller number is in MBq."""


def suv_factor(headers: Sequence[Dataset]) -> float:
    """Return the SUV in g/ml per unit of the rescaled pixel values. ``headers`` has all slices.

    SUV = c · w / D with the concentration c in Bq/ml, the body weight w in g, and the dose D in Bq
    at the moment to which the images are decay-corrected. With DecayCorrection START,
    D = D₀ · 2^(−(t − t₀)/T½) with the injected dose D₀, the injection at t₀ and the start of the
    scan t. With ADMIN, D = D₀. The start is the time of the series, or its earliest acquisition if
    that is earlier, because post-processing may rewrite the time of the series.

    The factor is 1 for images that are SUV already (GML). Philips' counts (CNTS) have a factor in
    the header.

    Source: QIBA's vendor-neutral pseudo-code,
    https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV).

    Raises UserError that names a tag that is missing or can't be used.
    """
    first = headers[0]
    units = str(_needed(first, "Units"))
    for keyword in ("Units", "DecayCorrection"):
        if len({str(header.get(keyword)) for header in headers}) > 1:
            raise UserError(f"{_named(keyword)} differs between slices; no single SUV scale")
    if units == "GML":
        if str(first.get("SUVType") or "BW") != "BW":
            raise UserError(f"{_named('SUVType')} is not BW; expected SUV by body weight")
        return 1.0
    scale = 1.0
    if units == "CNTS":
        if factor := _private(first, PHILIPS_SUV):
            return factor
        scale = _private(first, PHILIPS_ACTIVITY)
        if not scale:
            raise UserError(
                f"{_named('Units')} is CNTS, but Philips' SUV scale factor (7053,1000) is missing; "
                "export it in BQML"
            )
    elif units != "BQML":
        raise UserError(f"{_named('Units')} is neither BQML, GML nor CNTS; export it in BQML")
    corrected = first.get("CorrectedImage")
    if corrected and "ATTN" not in ([corrected] if isinstance(corrected, str) else corrected):
        raise UserError(f"{_named('CorrectedImage')} lacks ATTN: no attenuation correction, no SUV")
    weight_g = 1000 * _number(first, "PatientWeight")
    return scale * weight_g / _dose_at_reference(headers)


def _dose_at_reference(headers: Sequence[Dataset]) -> float:
    """Return the dose in Bq at the moment to which the images are decay-corrected."""
    first = headers[0]
    correction = str(_needed(first, "DecayCorrection"))
    if correction not in ("START", "ADMIN"):
        raise UserError(
            f"{_named('DecayCorrection')} is neither START nor ADMIN; reconstruct it with decay "
            "correction"
        )
    item = _needed(first, "RadiopharmaceuticalInformationSequence")[0]
    dose = _number(item, "RadionuclideTotalDose")
    if dose < LEAST_DOSE:
        raise UserError(
            f"{_named('RadionuclideTotalDose')} is {dose:g}; expected becquerel, not megabecquerel"
        )
    if correction == "ADMIN":
        return dose
    half_life = _number(item, "RadionuclideHalfLife")
    start = _scan_start(headers)
    elapsed = (start - _injection(item, start)).total_seconds()
    if not 0 <= elapsed <= LONGEST * half_life:
        raise UserError(
            f"the injection is {elapsed / 3600:.1f} h before the scan by their dates and times; "
            f"expected 0 to {LONGEST} half-lives ({_named('RadiopharmaceuticalStartDateTime')})"
        )
    return float(dose * 2 ** (-elapsed / half_life))


def _scan_start(headers: Sequence[Dataset]) -> datetime:
    series = _moment(headers[0], "Series")
    acquired = [moment for h in headers if (moment := _moment(h, "Acquisition"))]
    known = [moment for moment in (series, min(acquired, default=None)) if moment]
    if not known:
        raise UserError(f"SUV needs {_named('AcquisitionTime')} or {_named('SeriesTime')}: missing")
    return min(known)


def _injection(item: Dataset, scan: datetime) -> datetime:
    """Return the time of injection. A time without a date is the last such time before the scan."""
    if item.get("RadiopharmaceuticalStartDateTime"):
        return _datetime(item.RadiopharmaceuticalStartDateTime)
    clock = _time(_needed(item, "RadiopharmaceuticalStartTime"))
    moment = datetime.combine(scan.date(), clock)
    return moment if moment <= scan else moment - timedelta(days=1)


def _moment(header: Dataset, what: str) -> datetime | None:
    """Return <what>DateTime, or <what>Date with <what>Time. The default date is the series'."""
    if header.get(f"{what}DateTime"):
        return _datetime(header[f"{what}DateTime"].value)
    if not header.get(f"{what}Time"):
        return None
    day = header.get(f"{what}Date") or header.get("SeriesDate") or header.get("StudyDate")
    return datetime.combine(
        _date(day) if day else date(2000, 1, 1), _time(header[f"{what}Time"].value)
    )


def _date(value: Any) -> date:
    return datetime.strptime(str(value).replace(".", "")[:8], "%Y%m%d").date()


def _time(value: Any) -> time:
    """Parse "HHMMSS.ffffff", which may end anywhere after the hours."""
    whole, _, fraction = str(value).strip().replace(":", "").partition(".")
    moment = datetime.strptime(whole.ljust(6, "0")[:6], "%H%M%S")
    return moment.replace(microsecond=int(fraction.ljust(6, "0")[:6] or 0)).time()


def _datetime(value: Any) -> datetime:
    """Parse a local time. An offset to UTC is dropped, because the series' times have none."""
    text = str(value).split("+")[0].split("-")[0]
    return datetime.combine(_date(text), _time(text[8:] or "00"))


def _needed(dataset: Dataset, keyword: str) -> Any:
    value = dataset.get(keyword)
    if value is None or not str(value) or not len(value if hasattr(value, "__len__") else "1"):
        raise UserError(f"SUV needs {_named(keyword)}: missing; add it to the header")
    return value


def _number(dataset: Dataset, keyword: str) -> float:
    value = float(_needed(dataset, keyword))
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"SUV needs {_named(keyword)}: {value:g}; expected more than 0")
    return value


def _private(dataset: Dataset, tag: int) -> float:
    """Return a private tag's number; 0 if it is missing."""
    value = float(dataset[tag].value or 0) if tag in dataset else 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _named(keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
