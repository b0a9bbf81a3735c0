"""``any2all sample --dicom``: write results as derived DICOM series."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from any2all_data.dicom import Series, find_series, read_series
from any2all_data.dicom_derived import Derived, write_derived
from any2all_data.kinds import kind_for, kind_of_dicom
from any2all_operators import UserError

from any2all_app.measurement import PatientMeasurement
from any2all_app.report import placed
from any2all_app.report_format import Report
from any2all_app.results import Completion

FIRST_NUMBER = 9001
"""SeriesNumber of the first series written; scanners do not use numbers this high."""


def find_reference(measurement: PatientMeasurement, folder: Path | None) -> Series:
    """Find the series whose patient, study and frame of reference the results take.

    Raises UserError if there is none or more than one. It also refuses a series that does not
    coincide with the patient's images, because the results would be placed wrongly.
    """
    if folder is None:
        if measurement.reference is None:
            raise UserError(
                "--dicom: the input is not DICOM; give --dicom-from FOLDER, the series that the "
                "patient's images were registered to"
            )
        return measurement.reference
    series, _ = find_series(folder)
    if len(series) != 1:
        raise UserError(
            f"--dicom-from {folder}: has {len(series)} series; expected the folder of one series"
        )
    if not measurement.volumes:
        raise UserError("--dicom-from: its position can't be checked, because no image is given")
    _check_place(measurement, series[0], folder)
    return series[0]


def _check_place(measurement: PatientMeasurement, series: Series, folder: Path) -> None:
    from any2all_data.registration import quality_threshold, registration_quality

    name, volume = next(iter(measurement.volumes.items()))
    image = nib.Nifti1Image(volume.slices.transpose(2, 1, 0), volume.affine)
    shown = kind_of_dicom(series.tags.get("Modality", ""))
    pair = (shown, kind_for(measurement.format[name]))
    quality = registration_quality(read_series(series), image, np.eye(4), kinds=pair)
    if quality < quality_threshold(pair):
        raise UserError(
            f"--dicom-from {folder}: it is not at the position of the input's {name} (agreement "
            f"{quality:.2f}, expected {quality_threshold(pair)} or more); give the series that the "
            "input was registered to"
        )


def write_dicom(folder: Path, completion: Completion, reference: Series) -> None:
    """Write a folder of DICOM files for each modality that was not given clean."""
    measurement, report = completion.measurement, completion.report
    results = measurement.in_place(completion.draws)
    affine = placed(measurement).affine
    mean = results.mean(0).numpy()
    for m, name in enumerate(completion.modalities):
        if measurement.as_given(name):
            continue
        values = measurement.ranges[name]
        verb = "synthesised" if measurement.source[name] == "missing" else "reconstructed"
        image = Derived(
            kind=kind_for(measurement.format[name]),
            slices=values.physical(mean[:, m]),
            affine=affine,
            range=values,
            description=f"{name} {verb} by Any2all, research only"[:64],
            method=_method_text(name, verb, measurement, report),
        )
        write_derived(folder / name, image, reference, FIRST_NUMBER + m)


def _method_text(name: str, verb: str, measurement: PatientMeasurement, report: Report) -> str:
    """Describe how a series was made, in at most 1024 characters."""
    given = [
        f"{m} ({built.name})"
        for m, built in measurement.built.items()
        if measurement.source[m] != "missing"
    ]
    sampler, prior = report["sampler"]["name"], report["prior"]["sha256"][:12]
    of = f"mean of {report['draws']} draws" if report["draws"] > 1 else "one draw"
    said = (
        f"Research only, not for diagnosis. {name} {verb} from {', '.join(given)} with a diffusion "
        f"model (Any2all {report['versions']['any2all-app']}, sampler {sampler}, "
        f"{report['network_calls']} network calls, seed {report['seed']}, {of}, prior {prior})."
    )
    if verb == "synthesised":
        said += f" No {name} was measured: the image shows what is usual in such patients."
    if report["prior"]["virtual"]:
        said += " The prior was trained on virtual people."
    if measurement.source[name].startswith("simulated"):
        said += " Its measurement was simulated from an image."
    return said[:1024]
