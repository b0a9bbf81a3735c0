"""Methods: of the published size, they learn, keep what is given, and never look at more."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from any2all_core import FittedMethod, Method, MethodSettings, check_method
from any2all_core.examples import InMemory
from any2all_core.fitting import fit
from any2all_core.loop import Progress, TrainingData, TrainingRun
from any2all_core.named_methods import make_method
from any2all_core.noise import generator
from any2all_core.registry import list_plugins
from any2all_core.stack_format import StackFormat
from any2all_core.testing import MODALITIES
from any2all_mri.kspace import KSpace
from any2all_operators import UserError
from builders.methods import SETTINGS, SIZE, learn, method, question, slices

METHODS = ("regressor", "m2dn", "mmgan", "resvit", "mcvarnet", "minet", "discdiff")
ADVERSARIES = ("mmgan", "resvit")


def fitted(of: Method) -> FittedMethod:
    """Untrained."""
    torch.manual_seed(0)
    return FittedMethod("own", of, of.build(SETTINGS).eval(), SETTINGS)


def test_all_are_there() -> None:
    found = [
        p.name for p in list_plugins("any2all.methods") if p.distribution == "any2all-baselines"
    ]
    assert found == sorted(METHODS)


@pytest.mark.parametrize(
    ("name", "part", "millions"),
    [
        ("mmgan", "generator", 54.4),
        ("mcvarnet", "", 1.39),
        # ViT-B's encoder: 12 layers of 7,087,872 and the last norm
        ("resvit", "generator.transformer", 85.056),
    ],
)
def test_paper_is_of_the_published_size(name: str, part: str, millions: float) -> None:
    names = ("T1", "FLAIR", "T2", "CT")
    with torch.device("meta"):
        network = make_method(name, {}, "paper").build(
            MethodSettings(StackFormat.of_names(names, (256, 256)))
        )
    count = sum(p.numel() for p in network.get_submodule(part).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.1)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("recipe", ["small", "paper"])
def test_every_recipe_can_be_built(name: str, recipe: str) -> None:
    with torch.device("meta"):
        network = make_method(name, {}, recipe).build(
            MethodSettings(StackFormat.of_names(MODALITIES, (128, 96)))
        )
    count = sum(p.numel() for p in network.parameters()) / 1e6
    print(f"{name}, {recipe}: {count:.1f} million")
    assert count > (1.3 if recipe == "paper" else 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_keeps_its_contract(name: str) -> None:
    """Given images bit for bit and no leak for every subset, refusals, batches, folders."""
    check_method(f"any2all-baselines:{name}", method(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_overfits_four_slices(name: str) -> None:
    """What it minimises on one batch falls tenfold within 300 steps.

    Of an adversary it is the error of its answers: its loss does not fall as the other grows wiser.
    """
    rate = {"mmgan": "1e-3", "resvit": "1e-3", "regressor": "4e-3", "m2dn": "4e-3"}.get(
        name, "2e-3" if name == "mcvarnet" else "3e-3"
    )
    of = method(name, f"learning_rate={rate}")
    x = slices()
    first = last = float("nan")
    for step, (network, losses) in enumerate(learn(of, 300, lambda _: question(of, x))):
        if name in ADVERSARIES:
            if step % 10:
                continue
            asked = question(of, x)
            with torch.no_grad():
                made = of.complete(network, asked.given, asked.available, asked.noise)
            last = float((made - x).abs().mean((2, 3))[asked.wanted].mean())
        else:
            last = losses["network"]
        first = first if step else last
        if last < 0.1 * first:
            break
    assert last < 0.1 * first


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_is_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    of = method(name, "steps=4:batch_size=2:ema=0.5:warmup=0")
    own = f"any2all-baselines:{name}"

    def run(folder: str, **options: Any) -> list[float]:
        seen: list[float] = []

        def report(progress: Progress) -> None:
            seen.append(progress.loss)
            if folder == "cut" and progress.step == 3 and "resume" not in options:
                raise KeyboardInterrupt

        every: dict[str, Any] = {"checkpoint_every": 2, "validate_every": 9}
        here = TrainingRun(
            tmp_path / folder, precision="float32", report=report, **every, **options
        )
        fit(of, TrainingData(InMemory(slices()), slices()[:2]), SETTINGS, here, name=own)
        return seen

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    assert run("cut", resume=True) == whole[2:]
    a, b = (FittedMethod.load(tmp_path / folder, "cpu") for folder in ("whole", "cut"))
    for ours, theirs in zip(a.network.parameters(), b.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert a.settings.training["images"] == 8
    assert "seconds" in a.settings.training
    assert (tmp_path / "cut/best/method.json").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_was(tmp_path: Path) -> None:
    """kill -9 in the midst of it, three times."""
    of = method("mmgan", "steps=40:batch_size=2")

    def run(folder: Path, resume: bool = False) -> None:
        here = TrainingRun(folder, resume, "float32", checkpoint_every=2, validate_every=20)
        data = TrainingData(InMemory(slices()), slices()[:2])
        fit(of, data, SETTINGS, here, name="any2all-baselines:mmgan")

    run(tmp_path / "whole")
    checkpoint = tmp_path / "cut/checkpoint.pt"
    for kills in range(3):
        before = checkpoint.stat().st_mtime_ns if kills else 0
        child = os.fork()
        if not child:
            try:
                run(tmp_path / "cut", bool(kills))
            finally:
                os._exit(0)
        end = time.monotonic() + 120
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert time.monotonic() < end
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    run(tmp_path / "cut", resume=True)
    a, b = (FittedMethod.load(tmp_path / folder, "cpu") for folder in ("whole", "cut"))
    for ours, theirs in zip(a.network.parameters(), b.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    best = json.loads((tmp_path / "cut/best/method.json").read_text())["training"]
    assert best["validation_loss"] <= b.settings.training["validation_loss"]


@pytest.mark.parametrize("name", ["m2dn", "mmgan"])
def test_two_seeds_give_two_answers_from_nothing(name: str) -> None:
    own = fitted(method(name))
    a, b = (own.complete(slices(), (), seed) for seed in (0, 1))
    spread = float((a - b).std())
    print(f"{name}: spread of two draws {spread:.4f}")
    assert spread > 1e-4
    assert torch.equal(a, own.complete(slices(), (), 0))


def test_the_curriculum_of_mmgan_begins_with_one_missing_image() -> None:
    of = method("mmgan")
    present = torch.ones(400, 5, dtype=torch.bool)
    for done, most in ((0.0, 1), (0.2, 2), (0.4, 3), (0.99, 5)):
        random = [generator(1, b) for b in range(len(present))]
        missing = 5 - of.given_in_training(present, random, done).sum(1)
        assert missing.min() == 1
        assert missing.max() == most


def test_what_it_is_not_made_for_is_said() -> None:
    x = slices()
    operator = KSpace(coils=2).build(SIZE, SIZE)
    regressor, minet = fitted(method("regressor")), fitted(method("minet"))
    with pytest.raises(UserError, match="not made for generation, but for synthesis"):
        regressor.complete(x, ())
    y = operator.forward(x[:, 1])
    with pytest.raises(UserError, match="not made for reconstruction"):
        regressor.recover(y, operator, "FLAIR", given=x, available=("T1",))
    with pytest.raises(UserError, match="reconstructs FLAIR, not T1"):
        minet.recover(y, operator, "T1", given=x, available=("FLAIR",))
    with pytest.raises(UserError, match="unknown modality CT"):
        regressor.complete(x, ("CT",))
    with pytest.raises(UserError, match="target=CT: the images are T1, FLAIR, T1Gd"):
        method("minet", "target=CT").build(SETTINGS)
    with pytest.raises(UserError, match="slices of 16 x 16"):
        method("mmgan").build(MethodSettings(StackFormat.of_names(MODALITIES, (16, 16))))
