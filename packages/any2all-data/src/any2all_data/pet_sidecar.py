"""PET from NIfTI: what its BIDS sidecar says, and from that to SUV by body weight."""

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
"""Seconds, by element and mass number."""
BECQUEREL = {
    "BQ": 1.0,
    "KBQ": 1e3,
    "MBQ": 1e6,
    "GBQ": 1e9,
    "NCI": 37.0,
    "UCI": 3.7e4,
    "MCI": 3.7e7,
}
UNTOLD = (None, "", "n/a")
VOLUMES = ("/ML", "/CC", "/CM3", "ML")
"""How 1 ml is written after an activity; DICOM leaves the stroke out."""
SUV_UNITS = ("SUV", "SUVBW", "G/ML", "GML")
WEIGHTS = ("WEIGHT", "BODYWEIGHT", "PATIENTWEIGHT", "WEIGHTKG")
"""What the body weight in kg is called, in a sidecar or as a column of participants.tsv."""
DOSES, BODIES = (1e5, 2e10), (0.5, 400.0)
"""Bq injected and kg of weight; anything else is in another unit."""
HALF_LIFE = "RadionuclideHalfLife"
"""DICOM's, in seconds; of nuclides that aren't in HALF_LIVES."""
NEEDED = (
    "Units",
    "InjectedRadioactivity",
    "InjectedRadioactivityUnits",
    "InjectionStart",
    "ImageDecayCorrected",
    "ImageDecayCorrectionTime",
)
LONGEST = 10
"""Half-lives between injection and the moment of the decay correction."""
EARLIEST = -600.0
"""Seconds from injection to that moment, where the scanner was started first."""
LATE_AFTER, LATE_LAST = 1800.0, 1200.0
"""Seconds: late frames begin so long after injection, in the last so many of the scan."""
OVERLAP = 1.0
"""Seconds that frames may overlap by rounding."""


@dataclass(frozen=True)
class Frame:
    """One frame of a scan, in seconds from the injection."""

    start: float
    duration: float


@dataclass(frozen=True)
class PetScan:
    """What is known of the values of a PET image.

    dose: Bq injected; weight: kg; half_life: s; corrected_to: the moment that the values are
    decay-corrected to, in seconds from the injection, None where they aren't; activity: Bq/ml of
    one unit of the values, None where they are SUV already; frames: as far as they are known.
    """

    activity: float | None
    dose: float = 0.0
    weight: float = 0.0
    half_life: float = math.inf
    corrected_to: float | None = None
    frames: tuple[Frame, ...] = ()

    def suv_factor(self, frame: Frame | None) -> float:
        """g/ml for one unit of the values of a frame.

        SUV = c · w / (D · f) with c in Bq/ml, w in g, and f what is left of the injected dose D:
        f = 2^(−t/T½) at the moment t of the decay correction; without one the mean of 2^(−t/T½)
        over the frame, from s to s + d: 2^(−s/T½) (1 − 2^(−d/T½)) / (ln 2 · d/T½).
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
                "its values are not decay-corrected and its sidecar does not tell its one frame; "
                "SUV needs FrameTimesStart and FrameDuration of one frame each"
            )
        return self.activity * 1000 * self.weight / (self.dose * left)


def read_pet(path: Path) -> PetScan | None:
    """What the sidecar of a PET image says, None where there is no sidecar outside BIDS.

    Raises UserError naming everything that SUV needs and the sidecar lacks, or the first that
    can't be right. Nothing that is text in the sidecar is quoted.
    """
    said = read_sidecar(path)
    if not said and not in_bids(path):
        return None
    return pet_scan(said, read_participant(path))


def pet_files(path: Path) -> bytes:
    """Everything that a PET image's numbers hang on beside the image itself."""
    said = b"".join(sidecar.read_bytes() for sidecar in sidecar_files(path))
    try:
        participant = read_participant(path)
    except UserError:
        return said
    return said + str(_first_weight(participant)).encode()


def pet_scan(said: Mapping[str, Any], participant: Mapping[str, str]) -> PetScan:
    """From a sidecar, and the subject's row of participants.tsv, by column."""
    said = {name: value for name, value in said.items() if value not in UNTOLD}
    units = _plain(said.get("Units", ""))
    injection = _number(said, "InjectionStart") if "InjectionStart" in said else None
    frames = () if injection is None else _frames(said, injection)
    if units in SUV_UNITS:
        return PetScan(None, frames=frames)
    activity = _activity(units)
    if _plain(said.get("AttenuationCorrection", "not told")) in ("NONE", "NO", "FALSE"):
        raise UserError("AttenuationCorrection is none, so there is no SUV; leave it out")
    weight, corrected = _weight(said, participant), said.get("ImageDecayCorrected")
    needed = {name: said.get(name) for name in NEEDED}
    needed["TracerRadionuclide"] = said.get("TracerRadionuclide") or said.get(HALF_LIFE)
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
    half_life = _half_life(said)
    moment = _number(said, "ImageDecayCorrectionTime") - injection if corrected else None
    if moment is not None and not EARLIEST <= moment <= LONGEST * half_life:
        raise UserError(
            f"ImageDecayCorrectionTime is {moment:g} s after InjectionStart; expected {EARLIEST:g} "
            f"s to {LONGEST} half-lives, both in seconds from TimeZero"
        )
    return PetScan(activity, _dose(said), weight, half_life, moment, frames)


def late_frames(frames: Sequence[Frame], count: int) -> list[int]:
    """Which of ``count`` frames show the late uptake: those in the last 20 minutes of the scan.

    They begin 30 minutes after the injection at the earliest; a last frame that is longer than 20
    minutes counts by itself. Raises UserError where there are none, or the frames are not told.
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
            f"dynamic PET of {count} frames, but FrameTimesStart and FrameDuration tell of "
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
    """Bq/ml of one unit; 0 where none is told."""
    volume = next((written for written in VOLUMES if units.endswith(written)), "")
    activity = BECQUEREL.get(units.removesuffix(volume)) if volume else None
    if units and activity is None:
        raise UserError(
            "Units in its sidecar is none of Bq/mL, kBq/mL, MBq/mL and SUV (g/mL); convert it, or "
            "leave it out"
        )
    return activity or 0.0


def _frames(said: Mapping[str, Any], injection: float) -> tuple[Frame, ...]:
    starts, durations = (_list(said, name) for name in ("FrameTimesStart", "FrameDuration"))
    if len(starts) != len(durations):
        return ()
    return tuple(Frame(s - injection, d) for s, d in zip(starts, durations, strict=True))


def _list(said: Mapping[str, Any], name: str) -> list[float]:
    values = said.get(name, [])
    numbers = values if isinstance(values, list) else [values]
    if not all(_is_number(value) for value in numbers):
        raise UserError(f"{name} is no list of seconds; mend its sidecar")
    if name == "FrameDuration" and min(numbers, default=1) <= 0:
        raise UserError(f"{name} has {min(numbers):g} s; expected more than 0. Mend its sidecar")
    return [float(value) for value in numbers]


def _dose(said: Mapping[str, Any]) -> float:
    scale = BECQUEREL.get(_plain(said["InjectedRadioactivityUnits"]))
    if scale is None:
        raise UserError("InjectedRadioactivityUnits is neither Bq, kBq, MBq, GBq nor mCi; mend it")
    dose = scale * _number(said, "InjectedRadioactivity")
    if not DOSES[0] <= dose <= DOSES[1]:
        raise UserError(
            f"InjectedRadioactivity is {dose:g} Bq; expected {DOSES[0]:g} to {DOSES[1]:g}. Check "
            "InjectedRadioactivityUnits"
        )
    return dose


def _half_life(said: Mapping[str, Any]) -> float:
    """By the nuclide's name in whatever order, as F18, 18F, [18F] or F-18."""
    name = _plain(said.get("TracerRadionuclide") or "")
    letters = "".join(c for c in name if c.isalpha())
    nuclide = letters + "".join(c for c in name if c.isdigit())
    if nuclide in HALF_LIVES:
        return HALF_LIVES[nuclide]
    half_life = _number(said, HALF_LIFE) if HALF_LIFE in said else 0.0
    if half_life <= 0:
        raise UserError(
            f"TracerRadionuclide is none of {', '.join(HALF_LIVES)}, and there is no {HALF_LIFE} "
            "in seconds; add it to its sidecar"
        )
    return half_life


def _first_weight(told: Mapping[str, Any]) -> Any:
    named = {_plain(name).replace("/", ""): value for name, value in told.items()}
    values = (named.get(name) for name in WEIGHTS)
    return next((value for value in values if value not in UNTOLD), None)


def _weight(said: Mapping[str, Any], participant: Mapping[str, str]) -> float | None:
    """In kg, None where it isn't told."""
    value = _first_weight(said) or _first_weight(participant)
    if value is None:
        return None
    weight = _number({"BodyWeight": value}, "BodyWeight")
    if not BODIES[0] <= weight <= BODIES[1]:
        raise UserError(f"BodyWeight is {weight:g}; expected {BODIES[0]:g} to {BODIES[1]:g} kg")
    return weight


def _number(said: Mapping[str, Any], name: str) -> float:
    try:
        number = float(said[name])
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(said[name], bool) or not math.isfinite(number):
        raise UserError(f"{name} is no number; mend its sidecar")
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> str:
    """In capitals, without spaces, brackets and hyphens; micro as u."""
    text = str(value).replace("\u00b5", "u").replace("\u03bc", "u").upper()
    return "".join(c for c in text if c.isalnum() or c == "/")
