"""What is evaluated: samplers of a prior by their specification, and trained methods by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from any2all_app.grammar import sampler_of
from any2all_app.measurement import Trained
from any2all_core.answers import Answers
from any2all_core.checkpoint import BEST
from any2all_core.fitted import WEIGHTS, FittedMethod
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.sampler import Sampled, Solver
from any2all_operators import BlockDiagonal, Operator, UserError

from any2all_eval.study import Row, Study

AGREEING = " +DC"
"""Suffix of a method's name: one exact data-consistency step follows its reconstruction."""


@dataclass(frozen=True)
class Solvers:
    """The samplers of a prior, and trained methods.

    ``prior`` is None if only methods are evaluated. ``methods`` is {name: its answers}, and
    ``folders`` is {name: folder of the method}.
    """

    prior: DiffusionPrior | None
    methods: Mapping[str, Answers] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)

    @staticmethod
    def load(prior: DiffusionPrior | None, folders: Sequence[str], device: str) -> Solvers:
        """Add the methods in these folders, which must have the same images as the prior.

        A reconstruction method is added twice: as it is, and with AGREEING.
        """
        found, places = {}, {}
        frame: Trained | None = prior
        for text in folders:
            path = Path(text)
            fitted = FittedMethod.load(path, device)
            frame = frame or Answers(fitted, fitted.modalities)
            _expect_alike(text, fitted, frame)
            parts = path.resolve().parts
            name = "-".join(parts[-2:]) if parts[-1] == BEST else parts[-1]
            if name in found:
                raise UserError(f"--method {text}: two methods are called {name}; rename a folder")
            plain = Answers(fitted, frame.modalities)
            found[name], places[name] = plain, path
            if fitted.settings.validation_error is not None and fitted.method.targets():
                found[name + AGREEING] = replace(plain, dc=True)
                places[name + AGREEING] = path
        return Solvers(prior, found, places)

    @property
    def frame(self) -> Trained:
        """The object that defines the modalities and their scaling."""
        return self.prior or next(iter(self.methods.values()))

    def of(self, study: Study) -> Study:
        """The study with the methods added to its samplers, which only a prior has."""
        samplers = study.samplers if self.prior is not None else ()
        if twice := set(samplers) & set(self.methods):
            raise UserError(f"--method: {', '.join(twice)} is a sampler's name; rename the folder")
        methods = tuple(self.methods)
        return replace(study, samplers=(*samplers, *methods), methods=methods)

    def __call__(self, text: str) -> Solver:
        """The solver for the specification of a sampler, or the name of a method."""
        if text in self.methods:
            return self.methods[text]
        assert self.prior is not None
        return Sampled(self.prior, sampler_of(text))

    def can(self, text: str, row: Row, operator: BlockDiagonal) -> bool:
        """Whether it can answer a row; only a sampler with ``images_only`` can not always."""
        if text not in self.methods:
            if not getattr(sampler_of(text), "images_only", False):
                return True
            return all(self._measures_image(operator.operators[m]) for m in row.measured)
        answers = self.methods[text]
        if answers.dc and not row.measured:
            return False
        return answers.can(row.clean, {m: operator.operators[m] for m in row.measured}, row.scored)

    def _measures_image(self, operator: Operator) -> bool:
        """Whether the data of an operator is an image with noise."""
        empty = torch.zeros(1, *self.frame.settings.image_size)
        return operator.image(operator.forward(empty)) is not None

    def said(self, text: str) -> dict[str, Any]:
        """Its entry in the report: the options of a sampler, or the training of a method."""
        if text not in self.methods:
            return vars(sampler_of(text))
        answers = self.methods[text]
        path = self.folders[text]
        return {
            "method": answers.fitted.name,
            "options": vars(answers.fitted.method),
            "sha256": weights_hash(path, WEIGHTS),
            "dc": answers.dc,
            **answers.settings.budget,
        }


def _expect_alike(text: str, fitted: FittedMethod, frame: Trained) -> None:
    """Raise UserError unless a method has the same images and scaling as the frame."""
    settings, wanted = fitted.settings, frame.settings
    missing = [m for m in frame.modalities if m not in fitted.modalities]
    if missing or settings.image_size != wanted.image_size:
        height, width = settings.image_size
        rows, columns = wanted.image_size
        raise UserError(
            f"--method {text}: of {', '.join(fitted.modalities)} at {height} x {width}, expected "
            f"{', '.join(frame.modalities)} at {rows} x {columns}; train it on the same cohort, or "
            "leave --prior out"
        )
    other = [m for m in frame.modalities if settings.format[m] != wanted.format[m]]
    grids = settings.format.grid, wanted.format.grid
    if None not in grids and grids[0] != grids[1]:
        other = ["its grid"]
    if other:
        raise UserError(
            f"--method {text}: {', '.join(other)} is scaled otherwise than in the prior; train it "
            "on the same cohort"
        )
