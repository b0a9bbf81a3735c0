"""Compute the SUV by body weight of a PET in NIfTI from its BIDS sidecar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from any2all_operators import UserError

from any2all_data.sidecar import in_bids, read_participant, read_sidecar, sidecar_files

HALF_LIVES = {
    "O15": 122.24,
    "N13": 597.9,
    "C11": 1221.8,
    "GA68": 4057.7,
    "F18": 6586.2,
    "CU64": 45721.0,
    "BR76": 58320.0,
    "ZR89": 282276.0,
    "I124": 360806.0,
    "RB82": 76.4,
}
"""Half-lives in seconds, by element and mass number."""
BECQUEREL = {
    "BQ": 1.0,
    "KBQ": 1e3,
    "MBQ": 1e6,
    "GBQ": 1e9,
    "NCI": 37.0,
    "UCI": 3.7e4,
    "MCI": 3.7e7,
}
MISSING = (None, "", "n/a")
VOLUMES = ("/ML", "/CC", "/CM3", "ML")
"""Ways to write "per ml" after an activity. DICOM leaves the slash out."""
SUV_UNITS = ("SUV", "SUVBW", "G/ML", "GML")
WEIGHTS = ("WEIGHT", "BODYWEIGHT", "PATIENTWEIGHT", "WEIGHTKG")
"""Names of the body weight in kg, in a sidecar or as a column of participants.tsv."""
DOSES, BODIES = (1e5, 2e10), (0.5, 400.0)
"""Plausible ranges of the injected dose in Bq and the body weight in kg."""
HALF_LIFE = "RadionuclideHalfLife"
"""DICOM's half-life in seconds, for nuclides that are not in HALF_LIVES."""
NEEDED = (
    "Units",
    "InjectedRadioactivity",
    "InjectedRadioactivityUnits",
    "InjectionStart",
    "ImageDecayCorrected",
    "ImageDecayCorrectionTime",
)
LONGEST = 10
"""Largest number of half-lives from the injection to the moment of the decay correction."""
EARLIEST = -600.0
"""The smallest such time in seconds. It is negative if the scan started before the injection."""
LATE_AFTER, LATE_LAST = 1800.0, 1200.0
"""Late frames begin LATE_AFTER seconds after the injection or later, in the last LATE_LAST seconds
of the scan."""
OVERLAP = 1.0
"""Largest overlap of frames in seconds that counts as rounding."""


@dataclass(frozen=True)
class Frame:
    """Start and duration of a frame, in seconds. The start counts from the injection."""

    start: float
    duration: float


@dataclass(frozen=True)
class PetScan:
    """What is known about the values of a PET image.

    - ``activity``: Bq/ml per unit of the values; None if they are SUV already.
    - ``dose``: injected activity in Bq.
    - ``weight``: body weight in kg.
    - ``half_life``: in s.
    - ``corrected_to``: the moment to which the values are decay-corrected, in seconds after the
      injection; None if they are not corrected.
    - ``frames``: the frames, if they are known.
    """

    activity: float | None
    dose: float = 0.0
    weight: float = 0.0
    half_life: float = math.inf
    corrected_to: float | None = None
    frames: tuple[Frame, ...] = ()

    def suv_factor(self, frame: Frame | None) -> float:
        """Return the SUV in g/ml per unit of a frame's values.

        SUV = c · w / (D · f) with c in Bq/ml, w in g, the injected dose D in Bq, and the fraction f
        of D that is left. If the values are decay-corrected to the moment t, f = 2^(−t/T½).
        Otherwise f is the mean of 2^(−t/T½) over the frame from s to s + d,
        f = 2^(−s/T½) (1 − 2^(−d/T½)) / (ln 2 · d/T½).
        """
        if self.activity is None:
            return 1.0
        if self.corrected_to is not None:
            left = 2 ** (-self.corrected_to / self.half_life)
        elif frame is not None:
            lives = math.log(2) * frame.duration / self.half_life
            left = 2 ** (-frame.start / self.half_life) * -math.expm1(-lives) / lives
        else:
            raise UserError(
                "its values are not decay-corrected, and its sidecar does not describe exactly one "
                "frame; SUV needs FrameTimesStart and FrameDuration of that frame"
            )
        return self.activity * 1000 * self.weight / (self.dose * left)


def read_pet(path: Path) -> PetScan | None:
    """Read the sidecar of a PET image; None if a file outside of BIDS has no sidecar.

    Raises UserError that names all missing values, or the first implausible one. Text in the
    sidecar is not quoted, because it may identify somebody.
    """
    sidecar = read_sidecar(path)
    if not sidecar and not in_bids(path):
        return None
    return pet_scan(sidecar, read_participant(path))


def pet_files(path: Path) -> bytes:
    """Return the content of all files that the SUV of a PET depends on, without the image."""
    content = b"".join(sidecar.read_bytes() for sidecar in sidecar_files(path))
    try:
        participant = read_participant(path)
    except UserError:
        return content
    return content + str(_first_weight(participant)).encode()


def pet_scan(sidecar: Mapping[str, Any], participant: Mapping[str, str]) -> PetScan:
    """Interpret a sidecar and the subject's row {column: value} of participants.tsv."""
    sidecar = {name: value for name, value in sidecar.items() if value not in MISSING}
    units = _plain(sidecar.get("Units", ""))
    injection = _number(sidecar, "InjectionStart") if "InjectionStart" in sidecar else None
    frames = () if injection is None else _frames(sidecar, injection)
    if units in SUV_UNITS:
        return PetScan(None, frames=frames)
    activity = _activity(units)
    if _plain(sidecar.get("AttenuationCorrection", "not told")) in ("NONE", "NO", "FALSE"):
        raise UserError("AttenuationCorrection is none, so there is no SUV; leave it out")
    weight, corrected = _weight(sidecar, participant), sidecar.get("ImageDecayCorrected")
    needed = {name: sidecar.get(name) for name in NEEDED}
    needed["TracerRadionuclide"] = sidecar.get("TracerRadionuclide") or sidecar.get(HALF_LIFE)
    needed["BodyWeight (in kg; or weight in participants.tsv)"] = weight
    if corrected is False:
        del needed["ImageDecayCorrectionTime"]
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise UserError(f"SUV needs {', '.join(missing)}: missing in its sidecar; add it there")
    if not isinstance(corrected, bool):
        raise UserError("ImageDecayCorrected in its sidecar is neither true nor false; mend it")
    assert weight is not None
    assert injection is not None
    half_life = _half_life(sidecar)
    moment = _number(sidecar, "ImageDecayCorrectionTime") - injection if corrected else None
    if moment is not None and not EARLIEST <= moment <= LONGEST * half_life:
        raise UserError(
            f"ImageDecayCorrectionTime is {moment:g} s after InjectionStart; expected {EARLIEST:g} "
            f"s to {LONGEST} half-lives, both in seconds from TimeZero"
        )
    return PetScan(activity, _dose(sidecar), weight, half_life, moment, frames)


def late_frames(frames: Sequence[Frame], count: int) -> list[int]:
    """Return the indices of the frames in the last 20 minutes of the scan, which show late uptake.

    They begin 30 minutes after the injection or later. If the last frame is longer than 20
    minutes, it is the only one. ``count`` is the number of frames in the file.

    Raises UserError if there are no late frames, or the sidecar does not describe the frames.
    """
    if not frames:
        raise UserError(
            f"dynamic PET of {count} frames needs FrameTimesStart, FrameDuration and "
            "InjectionStart: missing in its sidecar; add them there, or average the late frames"
        )
    ends = [frame.start + frame.duration for frame in frames]
    gaps = [b.start - end for end, b in zip(ends, frames[1:], strict=False)]
    if len(frames) != count or min(gaps, default=0.0) < -OVERLAP:
        raise UserError(
            f"dynamic PET of {count} frames, but FrameTimesStart and FrameDuration describe "
            f"{len(frames)}{' that overlap' if len(frames) == count else ''}; mend its sidecar"
        )
    last = min(ends[-1] - LATE_LAST, frames[-1].start)
    late = [k for k, f in enumerate(frames) if f.start >= max(last - OVERLAP, LATE_AFTER)]
    if not late:
        raise UserError(
            f"dynamic PET whose last frame begins {frames[-1].start / 60:.0f} min after injection; "
            f"expected late frames, {LATE_AFTER / 60:.0f} min after it or later. Leave it out"
        )
    return late


def _activity(units: str) -> float:
    """Return Bq/ml per unit; 0 if the sidecar has no unit."""
    volume = next((written for written in VOLUMES if units.endswith(written)), "")
    activity = BECQUEREL.get(units.removesuffix(volume)) if volume else None
    if units and activity is None:
        raise UserError(
            "Units in its sidecar is none of Bq/mL, kBq/mL, MBq/mL and SUV (g/mL); convert the "
            "image, or leave it out"
        )
    return activity or 0.0


def _frames(sidecar: Mapping[str, Any], injection: float) -> tuple[Frame, ...]:
    starts, durations = (_list(sidecar, name) for name in ("FrameTimesStart", "FrameDuration"))
    if len(starts) != len(durations):
        return ()
    return tuple(Frame(s - injection, d) for s, d in zip(starts, durations, strict=True))


def _list(sidecar: Mapping[str, Any], name: str) -> list[float]:
    values = sidecar.get(name, [])
    numbers = values if isinstance(values, list) else [values]
    if not all(_is_number(value) for value in numbers):
        raise UserError(f"{name} is not a list of seconds; mend its sidecar")
    if name == "FrameDuration" and min(numbers, default=1) <= 0:
        raise UserError(f"{name} has {min(numbers):g} s; expected more than 0. Mend its sidecar")
    return [float(value) for value in numbers]


def _dose(sidecar: Mapping[str, Any]) -> float:
    scale = BECQUEREL.get(_plain(sidecar["InjectedRadioactivityUnits"]))
    if scale is None:
        raise UserError("InjectedRadioactivityUnits is neither Bq, kBq, MBq, GBq nor mCi; mend it")
    dose = scale * _number(sidecar, "InjectedRadioactivity")
    if not DOSES[0] <= dose <= DOSES[1]:
        raise UserError(
            f"InjectedRadioactivity is {dose:g} Bq; expected {DOSES[0]:g} to {DOSES[1]:g}. Check "
            "InjectedRadioactivityUnits"
        )
    return dose


def _half_life(sidecar: Mapping[str, Any]) -> float:
    """Return the nuclide's half-life in s. Its name may be F18, 18F, [18F] or F-18."""
    name = _plain(sidecar.get("TracerRadionuclide") or "")
    letters = "".join(c for c in name if c.isalpha())
    nuclide = letters + "".join(c for c in name if c.isdigit())
    if nuclide in HALF_LIVES:
        return HALF_LIVES[nuclide]
    half_life = _number(sidecar, HALF_LIFE) if HALF_LIFE in sidecar else 0.0
    if half_life <= 0:
        raise UserError(
            f"TracerRadionuclide is none of {', '.join(HALF_LIVES)}, and there is no {HALF_LIFE}; "
            f"add {HALF_LIFE} in seconds to its sidecar"
        )
    return half_life


def _first_weight(entries: Mapping[str, Any]) -> Any:
    named = {_plain(name).replace("/", ""): value for name, value in entries.items()}
    values = (named.get(name) for name in WEIGHTS)
    return next((value for value in values if value not in MISSING), None)


def _weight(sidecar: Mapping[str, Any], participant: Mapping[str, str]) -> float | None:
    """Return the body weight in kg; None if it is missing."""
    value = _first_weight(sidecar) or _first_weight(participant)
    if value is None:
        return None
    weight = _number({"BodyWeight": value}, "BodyWeight")
    if not BODIES[0] <= weight <= BODIES[1]:
        raise UserError(f"BodyWeight is {weight:g}; expected {BODIES[0]:g} to {BODIES[1]:g} kg")
    return weight


def _number(sidecar: Mapping[str, Any], name: str) -> float:
    try:
        number = float(sidecar[name])
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(sidecar[name], bool) or not math.isfinite(number):
        raise UserError(f"{name} is not a number; mend its sidecar")
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> str:
    """Return a unit or name in capitals, without spaces, brackets and hyphens; micro becomes U."""
    text = str(value).replace("\u00b5", "u").replace("\u03bc", "u").upper()
    return "".join(c for c in text if c.isalnum() or c == "/")
