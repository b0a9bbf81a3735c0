"""Methods: of the published size, they learn, keep what is given, and never look at more."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from any2all_baselines import discdiff, mcvarnet
from any2all_baselines.guided import every_comb, zero_filled
from any2all_core import FittedMethod, Method, MethodSettings, Question, Scan, check_method
from any2all_core.examples import InMemory
from any2all_core.fitting import fit
from any2all_core.loop import Progress, TrainingData, TrainingRun
from any2all_core.named_methods import make_method
from any2all_core.noise import generator
from any2all_core.registry import list_plugins
from any2all_core.stack_format import StackFormat
from any2all_core.testing import MODALITIES, phantom
from any2all_mri.kspace import KSpace
from any2all_operators import UserError

SIZE = 32
SETTINGS = MethodSettings(StackFormat.of_names(MODALITIES, (SIZE, SIZE)))
METHODS = ("regressor", "m2dn", "mmgan", "resvit", "mcvarnet", "minet", "discdiff")
ADVERSARIES = ("mmgan", "resvit")
GUIDED = ("mcvarnet", "minet", "discdiff")


def method(name: str, more: str = "") -> Method:
    texts = more.split(":") if more else []
    return make_method(name, dict(text.split("=") for text in texts), "tiny")


def slices() -> torch.Tensor:
    """(4, M, H, W) in [0, 1]."""
    volumes = [torch.from_numpy(phantom(SIZE, 4, seed=k) / 200) for k in range(3)]
    return torch.stack(volumes).permute(3, 0, 1, 2).contiguous().clamp(0, 1)


def fitted(of: Method) -> FittedMethod:
    """Untrained."""
    torch.manual_seed(0)
    return FittedMethod("own", of, of.build(SETTINGS).eval(), SETTINGS)


def question(of: Method, x: torch.Tensor, seed: int = 0, everything: bool = False) -> Question:
    """One of a seed; with ``everything`` given, as far as the method takes it."""
    random = [generator(seed, b) for b in range(len(x))]
    present = torch.ones(x.shape[:2], dtype=torch.bool)
    given = of.given_in_training(present, random, 0.99)
    return Question(x, present, present if everything else given, random, 0.99)


def learn(
    of: Method, steps: int, asked: Callable[[int], Question]
) -> Iterator[tuple[Any, dict[str, float]]]:
    """A network that is trained, and what it minimises, after each step."""
    torch.manual_seed(0)
    network = of.build(SETTINGS)
    optimizers = of.optimizers(network)
    for step in range(steps):
        found = {}
        for part, loss in of.losses(network, asked(step)):
            network.zero_grad(set_to_none=True)
            loss.backward()
            optimizers[part].step()
            found[part] = float(loss.detach())
        yield network, found


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


@pytest.mark.parametrize("start", [0.0, 0.7])
def test_data_consistency_of_all_samples_is_the_truth(start: float) -> None:
    """With full sampling and no noise, from any image."""
    truth = slices()[:, 1]
    operator = KSpace(acceleration=1, coils=4, noise_std=0.0).build(SIZE, SIZE)
    scan = Scan(operator.forward(truth), operator, 1)
    found = mcvarnet.agreeing(scan, torch.full_like(truth, start), torch.tensor(0.1))
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=0)


def test_data_consistency_has_its_own_derivatives() -> None:
    operator = every_comb((KSpace(2, 2, 4, 0.05),), (16, 16), torch.device("cpu")).select(
        torch.tensor([0, 1])
    )
    random = generator(0)
    truth = torch.rand(2, 16, 16, generator=random)
    scan = Scan(operator.measure(truth, [generator(1), generator(2)]), operator, 0)
    image = torch.rand(2, 16, 16, generator=random).requires_grad_()
    error = torch.tensor(0.1, requires_grad=True)
    aim = torch.rand(2, 16, 16, generator=random)

    def value(x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return (mcvarnet.agreeing(scan, x, e) - aim).square().sum()

    value(image, error).backward()
    assert image.grad is not None
    assert error.grad is not None
    along = torch.rand(2, 16, 16, generator=random)
    with torch.no_grad():
        for slope, (dx, de) in (
            ((image.grad * along).sum(), (1e-2 * along, 0.0)),
            (error.grad, (0.0, 1e-2)),
        ):
            up, down = value(image + dx, error + de), value(image - dx, error - de)
            assert float((up - down) / 2e-2) == pytest.approx(float(slope), rel=2e-2)


def test_disentanglement_of_equal_streams_has_a_finite_gradient() -> None:
    stream = torch.rand(2, 4, 8, 8)
    parts = [stream.clone().requires_grad_() for _ in range(6)]
    value = discdiff.disentanglement(parts[:3], parts[3:])
    value.backward()
    for part in parts:
        assert part.grad is not None
        assert bool(torch.isfinite(part.grad).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDED)
def test_a_guide_that_is_the_target_is_found(name: str) -> None:
    """10 dB better than what is zero-filled, of slices that were learnt, within 600 steps."""
    x = slices()
    x[:, 0] = x[:, 2] = x[:, 1]
    wider = ":channels=16+24:sampling_steps=8" if name == "discdiff" else ""
    of = method(name, "learning_rate=2e-3:acceleration=8:acs_lines=2" + wider)
    operator = of.scan_in_training(SETTINGS, "FLAIR")
    data = operator.measure(x[:, 1], [generator(9, b) for b in range(len(x))])
    plain = (zero_filled(Scan(data, operator, 1)) - x[:, 1]).square().mean()
    gain = torch.zeros(())
    for step, (network, _) in enumerate(learn(of, 600, lambda k: question(of, x, k, True))):
        if step % 25 == 24:
            own = FittedMethod("own", of, network.eval(), SETTINGS)
            shown = ("T1", "T1Gd")
            made = own.recover(data, operator, "FLAIR", given=x, available=shown)[:, 1]
            network.train()
            gain = 10 * (plain / (made - x[:, 1]).square().mean()).log10()
            if gain > 10:
                break
    assert gain > 10


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
