"""The findings of a run, in the form that every table and the report take."""

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
    """The findings of a run.

    Parameters
    ----------
    studies, lines, claims, safety
        The studies, a line for each result, and the decisions that follow from them.
    made
        Figures of unconditional draws.
    beaten
        The number of results that a simple reference beats, and a sentence for each.
    figures
        {name: figure}; None if there is nothing to plot.
    """

    studies: Sequence[Study]
    lines: Sequence[Line]
    claims: Sequence[Claim]
    safety: Sequence[Safety]
    made: Mapping[str, Generation]
    beaten: tuple[str, Sequence[str]]
    figures: Mapping[str, Figure | None]
