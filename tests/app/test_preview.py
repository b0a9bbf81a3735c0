"""What lies beside a result: preview.png, and the truth, draws and measurement as NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_app import complete
from any2all_app.details import PARTS_OF_KSPACE, measurement_images
from any2all_app.preview import EMPTY, GAP, LINE, PAPER, TILE, contact_sheet, preview
from any2all_app.results import Completion
from any2all_operators import Identity, Operator
from builders.nifti import load
from builders.patients import write_patient
from PIL import Image, ImageColor

KNOWN = {"T1": "clean", "FLAIR": "kspace:acceleration=2:coils=2:acs_lines=8"}


@pytest.fixture(scope="module")
def completion(prior_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Completion:
    patient = write_patient(tmp_path_factory.mktemp("of") / "patient")
    return complete(patient, KNOWN, prior_folder, "mds:steps=2", draws=2, slices="1:3")


def values(path: Path) -> np.ndarray:
    return load(path).get_fdata(dtype=np.float32)


def test_details_hold_the_truth_the_draws_and_the_measurement(
    completion: Completion, tmp_path: Path
) -> None:
    completion.save(tmp_path / "out")
    details = tmp_path / "out/details"
    assert {path.name for path in details.iterdir()} == {
        *(f"FLAIR_{what}.nii.gz" for what in ("truth", "draws", "measurement")),
        *(f"T1Gd_{what}.nii.gz" for what in ("truth", "draws")),
    }
    given = values(completion.measurement.volumes["FLAIR"].path)[:, :, 1:3]
    top = completion.measurement.ranges["FLAIR"].high
    np.testing.assert_allclose(values(details / "FLAIR_truth.nii.gz"), given.clip(0, top), atol=0.1)
    draws = load(details / "FLAIR_draws.nii.gz")
    image = load(tmp_path / "out/FLAIR.nii.gz")
    assert draws.shape == (*image.shape, 2)
    np.testing.assert_array_equal(draws.affine, image.affine)
    np.testing.assert_allclose(draws.get_fdata().mean(3), image.get_fdata(), atol=0.01)
    std = values(tmp_path / "out/FLAIR_std.nii.gz")
    np.testing.assert_allclose(draws.get_fdata().std(3, ddof=1), std, atol=0.01)


def test_ever_more_of_kspace_ends_at_the_zero_filled_image(completion: Completion) -> None:
    known = completion.measurement
    operator, data = known.operator.operators["FLAIR"], known.data["FLAIR"]
    frames = measurement_images(operator, data)
    assert frames.shape == (PARTS_OF_KSPACE, 2, 32, 32)
    torch.testing.assert_close(frames[-1], operator.adjoint(data))
    detail = (frames - frames[-1]).square().mean((1, 2, 3))
    assert (detail[1:] < detail[:-1]).all() or detail[-2] < detail[0]
    assert detail[0] > 0


class Halved(Operator):
    """Every second column: data of another size than the image."""

    noise_std = 0.01

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :, ::2]

    def adjoint(self, data: torch.Tensor) -> torch.Tensor:
        image = data.new_zeros(len(data), data.shape[1], 2 * data.shape[2])
        image[:, :, ::2] = data
        return image


def test_a_measurement_that_is_no_image_is_solved_for() -> None:
    image = torch.rand(2, 8, 8)
    torch.testing.assert_close(measurement_images(Identity(0.1), image)[0], image)
    (found,) = measurement_images(Halved(), image[:, :, ::2])
    torch.testing.assert_close(found[:, :, ::2], image[:, :, ::2], atol=0.02, rtol=0)


def test_the_preview_has_no_black_cell_and_colours_to_a_scale(completion: Completion) -> None:
    sheet = preview(completion.measurement, completion.draws, completion.report["modalities"])
    zoom = -(-TILE // 32)
    tile = 32 * zoom
    assert sheet.width == GAP + 6 * (tile + GAP), "input, zero-filled, result, truth, error, spread"
    rows, columns = range(3), range(6)
    middle = {
        (r, c): sheet.crop(box(r, c, tile)).getcolors(1 << 20) or [] for r in rows for c in columns
    }
    empty = ImageColor.getrgb(EMPTY)
    for (r, c), colours in middle.items():
        main = max(colours)[1]
        of_t1, missing = r == 0 and c not in (0, 2), r == 2 and c < 2
        assert (main == empty) == (of_t1 or missing), (r, c)
        assert len(colours) > 1, "one colour, and nothing said"
    assert sheet.getpixel((sheet.width - 1, 0)) == ImageColor.getrgb(PAPER)
    one = preview(completion.measurement, completion.draws[:1], completion.report["modalities"])
    assert one.width == GAP + 5 * (tile + GAP), "no column of the spread of one draw"


def box(row: int, column: int, tile: int) -> tuple[int, int, int, int]:
    left = GAP + column * (tile + GAP)
    top = 3 * LINE + row * (2 * LINE + tile)
    return left, top, left + tile, top + tile


@pytest.mark.parametrize(("draws", "width"), [(1, 8), (3, 24), (9, 64)])
def test_a_contact_sheet_is_as_wide_as_its_draws(draws: int, width: int) -> None:
    sheet = contact_sheet(torch.zeros(draws, 2, 8, 8), ("T1", "FLAIR"))
    assert isinstance(sheet, Image.Image)
    assert sheet.width == width
    if draws == 9:
        assert sheet.getpixel((63, 31)) == 255, "the place of a draw that is not there is white"
