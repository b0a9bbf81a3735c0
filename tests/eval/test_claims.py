"""The paper's claims, and rows in which a reference wins, decided over patients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from any2all_core.testing import MODALITIES
from any2all_data.kinds import stack_format
from any2all_eval.beaten import compare, told
from any2all_eval.claims import Results, decide
from any2all_eval.study import Study, read_study
from any2all_eval.tables import lines_of
from builders.records import records
from scipy.stats import wilcoxon

THREE = stack_format(MODALITIES, (32, 32))
CLAIMED = ("quality grows with every added modality", "the first clean modality gains most")


@pytest.mark.parametrize(
    ("first", "second", "grows", "first_most"),
    [
        (1.0, 0.3, "holds", "holds"),
        (1.0, -0.3, "does not hold", "holds"),
        (1.0, 0.0, "not decidable", "holds"),
        (0.2, 2.0, "holds", "does not hold"),
    ],
)
def test_claims_are_decided_by_patients(
    first: float, second: float, grows: str, first_most: str
) -> None:
    """Of gains that vary by 0.1 among nine; five patients decide nothing, though they agree."""
    study = read_study("reconstruction", THREE)
    spread = [0.1, -0.1, 0.06, -0.07, 0.02, 0.03, -0.05, -0.02, 0.04]
    for patients in (9, 5):
        one = [first + s for s in spread[:patients]]
        two = [a + second - s for a, s in zip(one, spread[::-1], strict=False)]
        gains = {"y(FLAIR)": [0.0] * patients, "y(FLAIR)+T1": one, "y(FLAIR)+T1&T1Gd": two}
        claims = {claim.text: claim for claim in decide(Results([study], list(records(gains))))}
        found = [claims[text].verdict for text in CLAIMED]
        assert found == ([grows, first_most] if patients == 9 else ["not decidable"] * 2)
        assert not claims["MDS beats MPS in PSNR for reconstruction"].steps


def test_an_undecided_claim_says_how_many_patients_would_decide_it() -> None:
    """Against the power of Wilcoxon's test on drawn differences."""
    study = read_study("reconstruction", THREE)
    random = np.random.default_rng(0)
    gaps = random.normal(0, 1, 9)
    gaps = (gaps - gaps.mean()) / gaps.std(ddof=1) + 0.5  # d/s = 0.5
    clear = [5.0 + k / 10 for k in range(9)]
    values = {
        "y(FLAIR)": [0.0] * 9,
        "y(FLAIR)+T1": clear,
        "y(FLAIR)+T1&T1Gd": [a + g for a, g in zip(clear, gaps, strict=True)],
    }
    claim = decide(Results([study], list(records(values))))[0]
    needed = claim.patients_needed
    assert claim.decision == f"not decidable (about {needed} patients would decide it)"
    assert needed is not None
    found = [wilcoxon(random.normal(0.5, 1, needed)).pvalue < 0.05 for _ in range(1000)]
    assert 0.72 < np.mean(found) < 0.88
    settled = decide(Results([study], list(records(dict.fromkeys(values, clear)))))[1]
    assert settled.patients_needed is None


def test_mixed_claims_compare_what_they_say() -> None:
    study = read_study("mixed", THREE)
    values = {row.name: [float(k), k + 0.1] for k, row in enumerate(study.rows)}
    rows = [{**r, "study": "mixed"} for r in records(values)]
    claims = {claim.text: claim for claim in decide(Results([study], rows))}
    gains = [step.what for step in claims["mixed inputs gain with each measurement"].steps]
    assert "y(T1)+y(FLAIR), R = 4 (mds) over y(FLAIR), R = 4 (mds)" in gains
    assert "y(all MR), R = 4 (mds) over y(T1)+y(FLAIR), R = 4 (mds)" in gains
    assert len(gains) == 6
    more = [step.what for step in claims["more modalities matter more than cleaner ones"].steps]
    assert more == [f"y(all MR), R = {r} (mds) over T1+y(FLAIR), R = {r} (mds)" for r in (2, 4, 8)]


def figures(row: str, method: str, **means: float) -> dict[str, Any]:
    """The record of one patient's one slice."""
    of = {"study": "little", "row": row, "method": method, "image": "FLAIR", "patient": "a"}
    return {**of, "unit": "of [0, 1]", "seconds": 1.0, **means}


def test_a_row_in_which_a_reference_wins_is_named() -> None:
    """With method, best reference and both figures; in each metric; a row that wins is not."""
    study = Study("little", "A little", ("mds",), 1, (), {})
    rows = [
        figures("lost", "mds", psnr=20.0, ssim=0.8, psnr_scaled=24.0, ssim_scaled=0.8),
        figures("lost", "regression", psnr=21.0, ssim=0.7, psnr_scaled=23.0, ssim_scaled=0.7),
        figures("lost", "copy", psnr=22.5, ssim=0.75, psnr_scaled=23.0, ssim_scaled=0.85),
        figures("won", "mds", psnr=23.0, ssim=0.9),
        figures("won", "copy", psnr=22.0, ssim=0.9),
        figures("broken", "mds", psnr=math.nan, ssim=math.nan),
        figures("broken", "copy", psnr=10.0, ssim=0.1),
        figures("alone", "mds", psnr=10.0, ssim=0.1),
    ]
    count, sentences = told(compare([study], lines_of(rows)))
    assert sentences == [
        "little, lost (FLAIR): mds is below a simple reference in PSNR (20.00 dB, copy 22.50 dB) "
        "and SSIM at the best scale (0.800, copy 0.850).",
        "little, broken (FLAIR): mds is below a simple reference in PSNR (not finite, copy 10.00 "
        "dB) and SSIM (not finite, copy 0.100).",
    ]
    assert "beats 2 of 3" in count
    assert "without a simple reference: 1." in count
    assert "none of 1" in told(compare([study], lines_of(rows[3:5])))[0]
