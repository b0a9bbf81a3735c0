"""Results of completing a patient: images in their units, their spread, and a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from any2all_data.normalise import Array
from any2all_operators import UserError
from torch import Tensor

from any2all_app.details import write_details
from any2all_app.folders import is_free
from any2all_app.measurement import PatientMeasurement
from any2all_app.report import physical_images, write_draws, write_patient, write_preview
from any2all_app.report_format import Report, RunReport


@dataclass(frozen=True)
class Completion:
    """A patient with every image of the prior.

    Parameters
    ----------
    draws
        (D, B, M, H, W) in [0, 1], of the slices ``measurement.slice_ids``.
    measurement
        The patient's measurement.
    report
        Says how the draws were made, how well they agree with the measurement, and how well they
        predict held-out samples.
    """

    draws: Tensor
    measurement: PatientMeasurement
    report: Report

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of the modalities, in the prior's channel order."""
        return self.measurement.operator.modalities

    @property
    def images(self) -> dict[str, Array]:
        """Return {modality: (Z, H, W)}, the mean of the draws in the unit of the modality's file.

        A missing modality is in the prior's unit: HU, SUV, or [0, 1] for MR. Row 0 is anterior,
        column 0 is the patient's right, and slice 0 is the lowest.
        """
        return self._physical[0]

    @property
    def std(self) -> dict[str, Array]:
        """Return {modality: (Z, H, W)}, the draws' standard deviation in the same units."""
        return self._physical[1]

    @cached_property
    def _physical(self) -> tuple[dict[str, Array], dict[str, Array]]:
        return physical_images(self.measurement, self.draws)

    def save(self, folder: str | Path, command: str = "") -> None:
        """Write <modality>.nii.gz, <modality>_std.nii.gz, details/, preview.png and report.json.

        Parameters
        ----------
        folder
            A new or empty folder.
        command
            The command line, which is stored in the report.

        Raises
        ------
        UserError
            If the folder is not empty.
        """
        folder = _empty(folder)
        write_patient(folder, self.measurement, self.images, self.std)
        write_details(folder, self.measurement, self.draws)
        write_preview(folder, self.measurement, self.draws, self.report)
        _write_report(folder, self.report, command)


@dataclass(frozen=True)
class NewPeople:
    """Images of people who do not exist.

    Parameters
    ----------
    draws
        Stacks (D, M, H, W) in [0, 1].
    modalities
        Names of the modalities, in channel order.
    report
        Says how the stacks were drawn.
    """

    draws: Tensor
    modalities: tuple[str, ...]
    report: RunReport

    def save(self, folder: str | Path, command: str = "") -> None:
        """Write draw_000/<modality>.nii.gz and so on, preview.png and report.json.

        Parameters
        ----------
        folder
            A new or empty folder.
        command
            The command line, which is stored in the report.

        Raises
        ------
        UserError
            If the folder is not empty.
        """
        folder = _empty(folder)
        write_draws(folder, self.modalities, self.draws)
        _write_report(folder, self.report, command)


def _write_report(folder: Path, report: Report | RunReport, command: str) -> None:
    said = {"command": command, **report} if command else report
    (folder / "report.json").write_text(json.dumps(said, indent=2, default=str) + "\n")


def _empty(folder: str | Path) -> Path:
    folder = Path(folder)
    if not is_free(folder):
        raise UserError(f"{folder}: holds other results already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
