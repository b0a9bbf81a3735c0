"""One prior, one person, four questions: what is known differs, and the rest is drawn."""

from __future__ import annotations

from pathlib import Path

from any2all_core import reconstruct, simulate
from any2all_data import KSpace
from any2all_operators import BlockDiagonal, Identity, Operator
from pictures import person, quality, save_grid

CLEAN = Identity()


def draw(path: Path) -> None:
    """A row for each question, and the truth below."""
    prior, truth = person()
    kspace = KSpace(acceleration=4).build(*truth.shape[2:])
    questions: dict[str, dict[str, Operator]] = {
        "T1": {"T1": CLEAN},
        "y(FLAIR)": {"FLAIR": kspace},
        "T1 + y(FLAIR)": {"T1": CLEAN, "FLAIR": kspace},
        "FLAIR + CT": {"FLAIR": CLEAN, "CT": CLEAN},
    }
    rows = []
    for name, known in questions.items():
        operator = BlockDiagonal(known)
        places = [prior.modalities.index(m) for m in known]
        result = reconstruct(prior, operator, simulate(operator, truth[:, places]))[0]
        texts = [
            "given" if known.get(m) == CLEAN else quality(result[:, k], truth[:, k])
            for k, m in enumerate(prior.modalities)
        ]
        rows.append((f"from {name}", list(zip(texts, result[0], strict=True))))
    rows.append(("truth", [("", image) for image in truth[0]]))
    save_grid(path, rows, prior.modalities)


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".webp"))
