"""The first screen of the report: one sentence of result, a strip of images, and the gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from any2all_eval.generation import Generation
from any2all_eval.parts import PARTS, PLACES, TRUTH
from any2all_eval.pictures import Pictured, picture
from any2all_eval.statistics import Key
from any2all_eval.study import Study
from any2all_eval.tables import Line, figure, pair_of

ERROR = 0.2
"""Error at the end of the colour scale, relative to the image's range; the same for all images."""

PAIR = ("psnr", "ssim")


@dataclass(frozen=True)
class Gain:
    """A sampler's result for a row and image, with the simple reference of the highest PSNR."""

    line: Line
    reference: Line | None

    @property
    def key(self) -> Key:
        return self.line.key

    @property
    def name(self) -> str:
        """The name of the row, and of the image if the row does not contain it."""
        _, row, _, image = self.key
        return row if image in row else f"{row}: {image}"

    @property
    def psnr(self) -> float:
        return self.line.means["psnr"].value

    @property
    def over_reference(self) -> float:
        """The gain in dB; not a number if there is no reference."""
        return np.nan if self.reference is None else self.psnr - psnr_of(self.reference)

    @property
    def has_lower_ssim(self) -> bool:
        """Whether the reference has the higher SSIM."""
        reference = self.reference
        return reference is not None and self._ssim(self.line) < self._ssim(reference)

    @staticmethod
    def _ssim(line: Line) -> float:
        return line.means["ssim"].value if "ssim" in line.means else np.nan


@dataclass(frozen=True)
class Cell:
    """One picture of the strip as a data URL, with its caption."""

    said: str
    url: str


def psnr_of(line: Line) -> float:
    return line.means["psnr"].value


def gains_of(studies: Sequence[Study], lines: Sequence[Line]) -> list[Gain]:
    """One gain for each row and image of each study, of the first sampler that can answer it."""
    samplers = {study.name: study.samplers for study in studies}
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        study, row, _, image = line.key
        if np.isfinite(psnr_of(line)):
            groups.setdefault((study, row, image), []).append(line)
    found = []
    for (study, _, _), group in groups.items():
        simple = [line for line in group if line.key[2] not in samplers[study]]
        own = next((line for line in group if line.key[2] in samplers[study]), None)
        if own is not None:
            found.append(Gain(own, max(simple, key=psnr_of, default=None)))
    return found


def result_sentence(
    gains: Sequence[Gain], made: Mapping[str, Generation], people: int, who: str
) -> str:
    """The result in one sentence, with the worst case beside the best."""
    judged = f"in {people} {who}"
    if not gains:
        for name, found in made.items():
            return (
                f"{found.draws} stacks from {name} have a Fréchet distance of "
                f"{found.frechet_draws:.2f} from training slices; held-out people have "
                f"{found.frechet_held_out:.2f}."
            )
        return "Nothing was measured."
    methods = " and ".join(dict.fromkeys(gain.key[2] for gain in gains))
    beside = sorted((g for g in gains if g.reference), key=lambda g: g.over_reference)
    if not beside:
        low, high = (pick(gains, key=lambda g: g.psnr) for pick in (min, max))
        span = f"{low.psnr:.1f} dB ({low.name})"
        span += f" to {high.psnr:.1f} dB ({high.name})" if len(gains) > 1 else ""
        return f"{methods} has a PSNR of {span}, {judged}; no simple reference is beside it."
    worst, best = beside[0], beside[-1]
    if len(beside) == 1 and best.reference:
        return (
            f"{methods} has a PSNR of {best.psnr:.1f} dB ({best.name}), "
            f"{said_gain(best)} the best simple reference ({best.reference.key[2]}), {judged}."
        )
    above = sum(gain.over_reference > 0 for gain in beside)
    blurred = sum(gain.has_lower_ssim for gain in beside)
    but = f" (but a lower SSIM in {blurred})" if blurred else ""
    return (
        f"{methods} has a higher PSNR than the best simple reference in {above} of {len(beside)} "
        f"results{but}, from {said_gain(worst)} {_reference(worst)} ({worst.name}) to "
        f"{said_gain(best)} {_reference(best)} ({best.name}), {judged}."
    )


def _reference(gain: Gain) -> str:
    return gain.reference.key[2] if gain.reference else ""


def said_gain(gain: Gain) -> str:
    """5.7 dB above"""
    return f"{abs(gain.over_reference):.1f} dB {'above' if gain.over_reference > 0 else 'below'}"


def gain_table(gains: Sequence[Gain]) -> tuple[list[str], list[list[str]]]:
    """Every result, compared with the best simple reference."""
    cells = []
    for gain in gains:
        simple = gain.reference
        beside = ["", ""]
        if simple is not None:
            beside = [f"{simple.key[2]}: {pair_of(simple, PAIR)}", f"{gain.over_reference:+.2f}"]
        figures = [figure(gain.line, metric) for metric in PAIR]
        cells.append([gain.name, gain.key[2], *figures, *beside])
    header = ["input", "method", "PSNR (dB)", "SSIM", "best simple reference", "over it (dB)"]
    return header, cells


def strip_of(pictured: Pictured, gain: Gain) -> list[Cell]:
    """A middle slice of the first patient: the truth, and the result and error of both methods."""
    study, row, method, image = gain.key
    folder = pictured.output / PARTS / pictured.patients[0]
    methods = [method] + ([gain.reference.key[2]] if gain.reference else [])
    made = {
        part.method: arrays
        for part in pictured.parts
        if (part.study.name, part.row.name) == (study, row) and part.method in methods
        if (arrays := part.images(folder))
    }
    with np.load(folder / TRUTH) as kept:
        truths, places = kept[image].astype(np.float32), kept[PLACES].tolist()
    common = sorted(set(places).intersection(*(own.get(PLACES, places) for own in made.values())))
    place = common[len(common) // 2]
    truth = truths[places.index(place)]
    cells = [Cell(f"{image}, truth (slice {place})", picture(truth, "gray", 1.0))]
    for name in (n for n in methods if n in made):
        own = made[name]
        stack = own[image][list(own.get(PLACES, places)).index(place)]
        result = np.clip(stack.astype(np.float32), 0, 1)
        error = np.abs(result - truth)
        psnr = -10 * np.log10(max(float(np.square(error).mean()), 1e-12))
        cells.append(Cell(f"{name}: {psnr:.1f} dB", picture(result, "gray", 1.0)))
        cells.append(Cell(f"its error, 0 to {ERROR:g}", picture(error, "inferno", ERROR)))
    return cells
