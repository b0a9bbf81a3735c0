"""What a run found, as every table and the report take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from any2all_eval.claims import Claim
from any2all_eval.generation import Generation
from any2all_eval.study import Study
from any2all_eval.tables import Line, Safety

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Findings:
    """What a run found.

    Parameters
    ----------
    studies, lines, claims, safety
        What was asked, a line for each result, and what was decided by them.
    made
        Of stacks from nothing.
    beaten
        How many results a simple reference beats, and a sentence for each of them.
    figures
        By name; None where there is nothing to plot.
    """

    studies: Sequence[Study]
    lines: Sequence[Line]
    claims: Sequence[Claim]
    safety: Sequence[Safety]
    made: Mapping[str, Generation]
    beaten: tuple[str, Sequence[str]]
    figures: Mapping[str, Figure | None]
