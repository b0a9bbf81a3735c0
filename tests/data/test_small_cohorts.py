"""Cohorts of a few people: splits, pseudonyms, masks, and what is shown at the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from any2all_core.testing import AFFINE
from any2all_data.cohort_entry import Entry
from any2all_data.mask_names import mask_of
from any2all_data.masks import with_masks
from any2all_data.sources import Source
from any2all_data.splits import SplitCandidate, assigned
from builders.patients import lesion


def persons(count: int, first: int = 0) -> list[SplitCandidate]:
    return [
        SplitCandidate(f"n{k}", f"p-{k * 7919:012d}", 1 + k % 2)
        for k in range(first, first + count)
    ]


@pytest.mark.parametrize("first", range(0, 600, 12))
def test_from_five_patients_on_there_is_val_and_test(first: int) -> None:
    """And nobody who is there is moved when others come, one by one or all at once."""
    for count in (4, 5, 7, 12):
        groups = assigned("auto", persons(count, first), {})
        named = Counter(groups.values())
        assert count < 5 or (named["test"] and named["val"] and named["train"] > count / 2)
        more = assigned("auto", persons(count + 6, first), groups)
        assert all(more[key] == split for key, split in groups.items())
        assert {"val", "test"} <= set(more.values())


@pytest.mark.parametrize("first", range(0, 200, 10))
def test_a_run_that_was_cut_ends_in_the_same_splits(first: int) -> None:
    """Whoever was done before the cut."""
    people = persons(8, first)
    whole = assigned("auto", people, {})
    rng = np.random.default_rng(first)
    for _ in range(5):
        done = {p.key: whole[p.key] for p in people if rng.random() < 0.5}
        assert assigned("auto", people, done) == whole


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lesion.nii.gz", "lesion"),
        ("BraTS-GLI-00001-000-seg.nii.gz", "seg"),
        ("BraTS20_Training_001_seg.nii", "seg"),
        ("sub-01_space-T1w_label-lesion_mask.nii.gz", "lesion"),
        ("brain_mask.nii.gz", "mask"),
        ("T1_lesion_filled.nii.gz", ""),
        ("sub-01_segm_T1w.nii.gz", ""),
        ("t1_brain.nii.gz", ""),
    ],
)
def test_masks_are_known_by_name(name: str, kind: str) -> None:
    assert mask_of(name) == kind


def test_a_mask_moves_as_its_image_does(tmp_path: Path) -> None:
    """By the pose of the image that its name names; labels stay labels."""
    labels = lesion(tmp_path, "FLAIR_lesion.nii.gz")
    pose = np.eye(4)
    pose[:3, 3] = (3.0, -6.0, 4.0)  # two voxels back, four, and one
    native = {"shape": list(labels.shape), "affine": AFFINE.tolist()}
    entry = Entry(
        "test",
        AFFINE.tolist(),
        ["T1", "FLAIR"],
        reference="T1",
        native={
            "T1": native | {"pose": np.eye(4).tolist()},
            "FLAIR": native | {"pose": pose.tolist()},
        },
    )
    source = Source("p", "", {}, (tmp_path / "FLAIR_lesion.nii.gz",))
    moved, entry = with_masks({"lesion": source}, (4, 2, 32, 32), entry)
    assert entry.masks == {"lesion": "FLAIR"}
    there = labels.transpose(2, 1, 0)
    expected = np.zeros_like(there)
    expected[0:3, : 32 - 4, 2:] = there[1:4, 4:, :-2]
    np.testing.assert_array_equal(moved[:, 0], expected)
