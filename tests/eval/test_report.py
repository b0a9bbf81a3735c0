"""The first screen of report.html, its claims and its axes."""

from __future__ import annotations

import math
import re

import pytest
from any2all_eval.claims import Claim, Step
from any2all_eval.figures import LEAST_SPAN, plot
from any2all_eval.headline import gain_table, gains_of, result_sentence
from any2all_eval.pictures import picture
from any2all_eval.report import claims_list, table
from any2all_eval.statistics import Difference, Mean
from any2all_eval.study import Study
from any2all_eval.tables import Line

STUDY = Study("s", "A study", ("mds", "mps"), 1, (), {})


def line(row: str, method: str, psnr: float, image: str = "FLAIR", *, ssim: float = 0.8) -> Line:
    means = {
        "psnr": Mean(psnr, psnr - 1, psnr + 1, 10),
        "ssim": Mean(ssim, math.nan, math.nan, 10),
    }
    return Line(("s", row, method, image), "of [0, 1]", means, 0.1, None, None)


SCAN = [line("y(FLAIR)", "mds", 33.9), line("y(FLAIR)", "mps", 32.0), line("y(FLAIR)", "CG", 24.9)]
MISSING = [line("FLAIR from T1", "mds", 22.0), line("FLAIR from T1", "copy", 23.2)]
WORSE = [line("a", "mds", math.nan, "T1"), line("a", "mps", 20.0, "T1")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            SCAN + MISSING,
            "mds has a higher PSNR than the best simple reference in 1 of 2 results, from 1.2 dB "
            "below copy (FLAIR from T1) to 9.0 dB above CG (y(FLAIR)), in 10 patients.",
        ),
        (
            [*SCAN, line("FLAIR from T1", "mds", 24.0, ssim=0.7), MISSING[1]],
            "mds has a higher PSNR than the best simple reference in 2 of 2 results (but a lower "
            "SSIM in 1), from 0.8 dB above copy (FLAIR from T1) to 9.0 dB above CG (y(FLAIR)), in "
            "10 patients.",
        ),
        (
            SCAN,
            "mds has a PSNR of 33.9 dB (y(FLAIR)), 9.0 dB above the best simple reference (CG), in "
            "10 patients.",
        ),
        (
            SCAN[:2],
            "mds has a PSNR of 33.9 dB (y(FLAIR)), in 10 patients; no simple reference is beside "
            "it.",
        ),
        ([], "Nothing was measured."),
    ],
)
def test_one_sentence_says_the_worst_beside_the_best(lines: list[Line], said: str) -> None:
    assert result_sentence(gains_of([STUDY], lines), {}, 10, "patients") == said


def test_how_good_it_is_stands_beside_the_best_simple_reference() -> None:
    header, cells = gain_table(gains_of([STUDY], SCAN + MISSING + WORSE))
    assert header[-2:] == ["best simple reference", "over it (dB)"]
    assert cells == [
        ["y(FLAIR)", "mds", "33.90 [32.90, 34.90]", "0.800", "CG: 24.90 / 0.800", "+9.00"],
        ["FLAIR from T1", "mds", "22.00 [21.00, 23.00]", "0.800", "copy: 23.20 / 0.800", "-1.20"],
        ["a: T1", "mps", "20.00 [19.00, 21.00]", "0.800", "", ""],
    ]


def test_what_was_not_measured_is_folded_into_one_line() -> None:
    step = Step("more over less", "psnr", Difference(Mean(0.5, 0.3, 0.7, 10), 0.01))
    claims = [Claim("quality grows", (step,)), Claim("one more", ()), Claim("another", ())]
    page = claims_list(claims)
    assert page.count("<details") == 2
    shown, folded = page.split("2 not measured here</summary>")
    assert "quality grows: <b>holds</b>" in shown
    assert "one more" not in shown
    assert "another" in folded
    assert "open" not in re.findall(r"<details[^>]*>", page)[-1]


def test_an_axis_does_not_make_a_cliff_of_nothing() -> None:
    points = {("FLAIR", "mds"): [(0.0, 30.000), (1.0, 30.006)]}
    figure = plot(points, "clean images", "PSNR (dB)", lines=True)
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert high - low >= LEAST_SPAN["PSNR (dB)"] - 1e-9
    assert low < 30 < high
    wide = plot({("FLAIR", "mds"): [(0.0, 20.0), (1.0, 30.0)]}, "n", "PSNR (dB)", lines=True)
    assert wide is not None
    low, high = wide.axes[0].get_ylim()
    assert 10 < high - low < 12


def test_a_cell_knows_its_column_and_is_escaped() -> None:
    found = table(["R <b>", "PSNR"], [["<i>", "33"]])
    assert "<td data-of='R &lt;b&gt;'>&lt;i&gt;</td><td data-of='PSNR'>33</td>" in found


def test_an_error_has_the_colours_that_figures_have() -> None:
    import base64
    import io

    import numpy as np
    from PIL import Image

    url = picture(np.array([[0.0, 0.2, 0.4]]), "inferno", 0.2)
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert image.getpixel((0, 0)) == (0, 0, 3)
    assert image.getpixel((1, 0)) == image.getpixel((2, 0)) == (252, 254, 164)
