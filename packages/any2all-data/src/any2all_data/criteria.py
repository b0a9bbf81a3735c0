"""Criteria that rank the images of one modality by their headers; smaller comes first."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from any2all_core.modality_kind import ModalityKind

from any2all_data.rules import after_contrast, number, words
from any2all_data.sources import Source

LEAST_COVERAGE = 110.0
"""Coverage in mm, along its shortest side, that an image of a whole head has at least."""
SHORT_ECHO = 5.0
"""Difference in ms within which echo times of other modalities count as equal."""
DIXON = {"W": 1, "WATER": 1, "IP": 2, "IN_PHASE": 2, "OP": 3, "OPP_PHASE": 3, "OUT_PHASE": 3}
DIXON |= {"F": 4, "FAT": 4, "FF": 4}
"""Values of ImageType for Dixon images; smaller comes first."""
HEAD = r"^$|head|brain|skull|cranium|neuro|cerebr|whole ?body"
ELSEWHERE = (
    r"\b[ctl] ?spine\b|\bspin\w*|\bcerv\w*|\blumb\w*|\bthora\w*|\bneck\b|\bhals\b|\borbit\w*|"
    r"\biacs?\b|\bsella\w*|\bpituit\w*|\bhypoph\w*|\btmj\b|\bknee\b|\babdom\w*|\bpelvis\b|\bchest\b"
)
SHARP = r"bone|lung|edge|sharp|detail|knochen|\bos\b|^(fc)?[358]\d$|^y[cde]$|^[de]$"
"""Kernels for bone and lung: GE's names, Canon's FC30, FC50, FC80, Philips' D, E, YC to YE."""
SHARPEST_SOFT = 49
"""Siemens numbers its kernels (H31s, Br40f). Those above this number are for bone."""


def implausible(source: Source, kind: ModalityKind) -> list[str]:
    """Return a sentence for each sequence time in the header that does not fit this kind."""
    said = []
    for keyword, (least, most) in kind.times.items():
        value = number(source.tags, keyword)
        if value and not least <= value <= most:
            said.append(
                f"its {keyword} is {value:g} ms; expected {least:g} to {most:g} for {kind.name}"
            )
    return said


def shows_head(source: Source) -> bool:
    return re.search(HEAD, words(source.tags.get("BodyPartExamined", ""))) is not None


@dataclass(frozen=True)
class Candidate:
    """An image ranked as one of a kind. ``session`` is the preferred one, None for any."""

    source: Source
    kind: ModalityKind
    session: str | None

    @property
    def text(self) -> str:
        return words(self.source.tags.get("text", ""))

    def tag(self, name: str) -> str:
        return self.source.tags.get(name, "")

    @property
    def image_type(self) -> list[str]:
        return self.tag("ImageType").upper().replace(" ", "_").split("\\")


def _volume(one: Candidate) -> float:
    """Return 0 for one 3D volume, and for a damaged NIfTI file, so that its error is reported."""
    grid = one.source.grid
    if grid is None:
        return 0 if one.source.series is None else 2
    return 0 if grid.volumes == 1 else 1 if grid.volumes > 1 else 2


def _component(one: Candidate) -> float:
    """Return 0 for magnitude or unknown, 1 for real, 2 for imaginary or phase."""
    values = [*one.image_type[2:], one.tag("ComplexImageComponent").upper()]
    parts = {"R": 1, "REAL": 1, "I": 2, "IMAGINARY": 2, "P": 2, "PHASE": 2}
    ge = {"2": 1, "3": 2, "1": 2}.get(one.tag("RawDataType"), 0)
    bids = {"real": 1, "imag": 2, "phase": 2}.get(one.tag("part"), 0)
    return max([ge, bids, *(parts.get(value, 0) for value in values)])


def _dixon(one: Candidate) -> float:
    if found := [DIXON[value] for value in one.image_type[2:] if value in DIXON]:
        return max(found)
    named = {
        r"\b(fat|f)$|^fat\b|\bfat (only|image)": 4,
        r"\b(opp\w*|out) ?phase|\bop$|\bopp$": 3,
        r"\bin ?phase|\bip$|\bin$": 2,
        r"\bwater\b|\bw$": 1,
    }
    return next((place for wanted, place in named.items() if re.search(wanted, one.text)), 0)


def _inversion(one: Candidate) -> float:
    """Rank MP2RAGE: first the denoised uniform image, then the uniform one, then inversions."""
    if re.search(r"\binv ?\d?\b", one.text) or any("INV" in t for t in one.image_type[2:]):
        return 2
    uniform = re.search(r"\buni(t1)?\b", one.text) or "UNI" in one.image_type
    return 1 if uniform and not re.search(r"\bden\w*", one.text) else 0


def _elsewhere(one: Candidate) -> float:
    return 2 * (not shows_head(one.source)) + bool(re.search(ELSEWHERE, one.text))


def _partial(one: Candidate) -> float:
    grid = one.source.grid
    known = grid is not None and min(grid.spacing) > 0
    return float(known and grid is not None and grid.coverage < LEAST_COVERAGE)


def _derived(one: Candidate) -> float:
    """Count the marks of a derived image: BIDS entities, DERIVED, and SECONDARY or a reformat."""
    kind = one.image_type
    secondary = "SECONDARY" in kind[:2] or bool({"MPR", "REFORMATTED", "MIP"} & set(kind))
    return float(len(one.tag("derived").split()) + ("DERIVED" in kind[:1]) + secondary)


def _agent(one: Candidate) -> float:
    return float(not one.kind.contrast_agent and after_contrast(one.source.tags))


def _fat_suppressed(one: Candidate) -> float:
    return float(bool(re.search(r"\b(fs|fat ?sat|spair|spir)\b", one.text)))


def _second_choice(one: Candidate) -> float:
    words_ = one.kind.second_choice
    return float(bool(words_) and bool(re.search(words_, one.text)))


def _sharp(one: Candidate) -> float:
    if one.kind.dicom != "CT":
        return 0
    kernel = one.tag("ConvolutionKernel").split("\\")[0].strip().lower()
    siemens = re.fullmatch(r"[a-z]{1,2}(\d\d)[a-z]?", kernel)
    if siemens and not kernel.startswith("fc"):
        return float(int(siemens[1]) > SHARPEST_SOFT)
    return float(bool(re.search(SHARP, kernel) or re.search(SHARP, one.text)))


def _echo(one: Candidate) -> float:
    echo = number(one.source.tags, "EchoTime") or 0.0
    index = number(one.source.tags, "echo") or number(one.source.tags, "EchoNumbers") or 0.0
    if one.kind.usual_echo and echo:
        usual, within = one.kind.usual_echo
        return round(abs(echo - usual) / within)
    return index or round(echo / SHORT_ECHO)


CRITERIA: tuple[tuple[Callable[[Candidate], float], str], ...] = (
    (_volume, "it is not one 3D volume"),
    (_component, "it is not the magnitude"),
    (_dixon, "it is a Dixon image, or a Dixon image with less water"),
    (_inversion, "it is an inversion image or not denoised"),
    (_elsewhere, "it shows another part of the body"),
    (_partial, "it covers less than a head"),
    (lambda one: len(implausible(one.source, one.kind)), "its sequence times fit another contrast"),
    (lambda one: len(one.source.warnings), "it lacks slices"),
    (lambda one: one.session is not None and one.source.session != one.session, "another session"),
    (_derived, "it is derived from another image"),
    (_agent, "it was made after a contrast agent"),
    (_fat_suppressed, "its fat is suppressed"),
    (_second_choice, "its description marks a second choice"),
    (_sharp, "its kernel is for bone or lung"),
    (
        lambda one: one.tag("suffix").startswith(("UNI", "inplane")),
        "its BIDS suffix is less common",
    ),
    (lambda one: round(one.source.grid.coarsest, 1) if one.source.grid else 0, "it is coarser"),
    (lambda one: -one.source.frames, "it has fewer slices"),
    (_echo, "it is another echo"),
    (lambda one: "ND" in one.image_type, "it is not corrected for distortion"),
)
"""The criteria in their order, each with the reason why the other image comes later."""
