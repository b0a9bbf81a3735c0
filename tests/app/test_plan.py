"""Plans: a recipe by the cohort's fingerprint and the machine, its memory and its time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_app.plan_file import as_toml, duration
from any2all_app.planning import plan, time_of
from any2all_app.recipe_plan import Fingerprint, memory_of, plan_recipe
from any2all_app.training import Training, train
from any2all_app.training_time import VALIDATE_EVERY, StepTime
from any2all_core import Grid
from any2all_core.hardware import Machine
from any2all_core.network import build_prior
from any2all_core.recipe import Recipe, read_recipe
from any2all_core.testing import MODALITIES, TINY_RECIPE
from any2all_data.cohort_entry import Entry, Split
from any2all_data.kinds import stack_format
from any2all_data.store import CohortStore
from any2all_operators import UserError

LAPTOP = Machine(cores=2, memory=12_000_000_000)
GPU = Machine(16, 100_000_000_000, "a GPU", 80_000_000_000, bfloat16=True)
COHORT = Fingerprint(("T1", "FLAIR", "T1Gd"), (128, 128), 70, 7, 1_400, (1.0, 1.0, 5.0))


def of_size(height: int, width: int) -> Fingerprint:
    return dataclasses.replace(COHORT, size=(height, width))


def test_slices_of_128_on_two_cores_have_the_recipe_small() -> None:
    assert plan_recipe(COHORT, LAPTOP).recipe == read_recipe("small")


@pytest.mark.parametrize(
    ("size", "levels"),
    [((240, 240), 4), ((120, 90), 3), ((512, 512), 4), ((256, 60), 2), ((20, 24), 2)],
)
def test_the_last_level_sees_eight_pixels_or_more(size: tuple[int, int], levels: int) -> None:
    recipe = plan_recipe(of_size(*size), LAPTOP).recipe
    assert recipe.channels == Recipe().channels[:levels]
    assert levels == 2 or min(size) / (recipe.patch * 2 ** (levels - 1)) >= 8
    with torch.device("meta"):
        build_prior(recipe, of_size(*size).settings(recipe))  # which refuses what is too small


def test_a_step_is_cut_into_parts_that_memory_holds() -> None:
    whole = plan_recipe(of_size(240, 240), LAPTOP)
    tight = dataclasses.replace(LAPTOP, memory=2_500_000_000)
    parts = plan_recipe(of_size(240, 240), tight)
    assert parts.recipe.accumulate > whole.recipe.accumulate
    assert parts.recipe.batch_size * parts.recipe.accumulate == 16
    assert parts.fits
    assert parts.memory < whole.memory
    none = plan_recipe(of_size(240, 240), dataclasses.replace(LAPTOP, memory=500_000_000))
    assert (none.recipe.batch_size, none.fits) == (1, False)
    assert "more than there is: prepare smaller slices" in as_toml(none)


def test_a_gpu_takes_larger_steps_and_many_modalities_smaller_rates() -> None:
    recipe = plan_recipe(COHORT, GPU).recipe
    assert recipe.batch_size * recipe.accumulate == 128
    five = dataclasses.replace(COHORT, modalities=("T1", "FLAIR", "T2star", "CT", "PET"))
    assert plan_recipe(five, LAPTOP).recipe.learning_rate == 4e-4
    assert plan_recipe(five, GPU).recipe.learning_rate == recipe.learning_rate == 1e-3


def test_memory_of_an_example_is_what_its_gradient_keeps() -> None:
    """Against the tensors that a real pass keeps, of which the last ones are counted twice."""
    small = of_size(32, 32)
    _, each = memory_of(TINY_RECIPE, small, bfloat16=False)
    prior = build_prior(TINY_RECIPE, small.settings(TINY_RECIPE))
    own = {p.untyped_storage().data_ptr() for p in prior.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = prior.predict(torch.rand(1, 3, 32, 32), torch.tensor([[5, 5, 5]]))
    real = sum(storage.nbytes() for place, storage in kept.items() if place not in own)
    assert out.shape == (1, 3, 32, 32)
    assert real < each < 2 * real
    assert memory_of(TINY_RECIPE, small, bfloat16=True)[1] == each // 2


def test_a_plan_is_a_recipe_file_that_says_what_it_is_for(tmp_path: Path) -> None:
    made = plan_recipe(of_size(120, 90), LAPTOP)
    made = dataclasses.replace(made, time=StepTime(0.5, 2.0, 40.0))
    text = as_toml(made)
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    assert read_recipe(path) == made.recipe
    assert all(f"\n{field.name} = " in text for field in dataclasses.fields(Recipe))
    assert "1,400 slices of 120 x 90" in text
    assert "padded to 120 x 96 by mirroring" in text
    assert "2 cores" in text
    assert "2 s per step, 0.5 s per step at half size, 40 s per validation" in text
    expected = 3500 * 0.5 + 3500 * 2.0 + 7000 / VALIDATE_EVERY * 40
    assert made.seconds == pytest.approx(expected)
    assert duration(expected) in text


@pytest.mark.slow
def test_time_is_that_of_real_steps() -> None:
    found = time_of(TINY_RECIPE, of_size(32, 32), "float32")
    assert min(found.full, found.coarse, found.validation) > 0


def test_the_network_of_another_recipe_is_kept() -> None:
    assert plan_recipe(COHORT, LAPTOP, TINY_RECIPE).recipe.channels == TINY_RECIPE.channels


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("train", "train with T1, FLAIR, T1Gd: 1; expected two or more, because one is held out"),
        ("val", "train with T1, FLAIR, T1Gd: 0; expected one or more; see any2all cohort"),
    ],
)
def test_one_patient_can_not_be_trained_on_and_held_out(
    tmp_path: Path, split: Split, said: str
) -> None:
    store = CohortStore.create(str(tmp_path / "c"), stack_format(MODALITIES, (32, 32), Grid()))
    scale = dict.fromkeys(MODALITIES, 1.0)
    entry = Entry(split, np.eye(4).tolist(), list(MODALITIES), scale=scale)
    store.write("p-0", np.ones((2, 3, 32, 32), np.float32), entry)
    training = Training(store.url)
    with pytest.raises(UserError, match=said):
        plan(training)
    with pytest.raises(UserError, match=said):
        train(training, tmp_path / "run")
