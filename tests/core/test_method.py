"""A method of a third party, which needs nothing but the core."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from any2all_core import FittedMethod, MethodSettings, check_method
from any2all_core.examples import InMemory
from any2all_core.fitting import fit
from any2all_core.given import proper_subsets
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.named_methods import make_method
from any2all_core.noise import generator
from any2all_core.stack_format import StackFormat
from any2all_operators import UserError

LINEAR = """
from dataclasses import dataclass
import torch
from any2all_core import Method

@dataclass(frozen=True)
class Grey(Method):
    "A pixel's missing values by a linear map of those given."
    learning_rate: float = 1e-2
    abilities = frozenset({"synthesis"})

    def build(self, settings):
        count = len(settings.modalities)
        return torch.nn.Conv2d(2 * count, count, 1)

    def losses(self, network, question):
        made = self.complete(network, question.given, question.available, None)
        error = (made - question.truth).square().mean((2, 3))
        yield "network", (error * question.wanted).mean()

    def complete(self, network, given, available, noise):
        planes = available[:, :, None, None].expand_as(given).to(given.dtype)
        return network(torch.cat([given, planes], 1))
"""
OWN = "lab-linear:linear"


def test_one_of_twenty_lines_keeps_the_contract_and_learns(install, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    install("lab-linear", "linear", LINEAR, "any2all.methods")
    method = make_method("linear", {"steps": "300", "batch_size": "4", "warmup": "0"})
    check_method(OWN, method)
    a = torch.rand(8, 1, 8, 8, generator=generator(0))
    slices = torch.cat([a, 1 - a, 0.2 + 0.5 * a], 1)
    settings = MethodSettings(StackFormat.of_names(("A", "B", "C"), (8, 8)))
    run = TrainingRun(tmp_path / "run", precision="float32")
    fit(method, TrainingData(InMemory(slices), slices), settings, run, name=OWN)
    own = FittedMethod.load(tmp_path / "run/best", "cpu")
    assert own.settings.training["images"] == 1200
    assert own.settings.training["psnr_missing"] > 15
    made = own.complete(slices, ("A", "B"))
    assert float((made[:, 2] - slices[:, 2]).abs().mean()) < 0.05


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (("network(torch.cat", "3 * torch.nan * network(torch.cat"), "the loss is nan"),
        (('frozenset({"synthesis"})', "frozenset()"), "abilities is empty"),
        (("return network(", "given = given - given.mean(0)\n        return network("), "alone"),
        (('yield "network",', 'yield "other",'), "other"),
    ],
)
def test_what_breaks_the_contract_is_named(install, broken: tuple[str, str], said: str) -> None:  # type: ignore[no-untyped-def]
    install("lab-linear", "linear", LINEAR.replace(*broken), "any2all.methods")
    with pytest.raises((AssertionError, UserError, KeyError), match=said):
        check_method(OWN, make_method("linear", {}))


def test_what_needs_a_package_says_which(install, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    install("lab-linear", "linear", LINEAR, "any2all.methods")
    method = make_method("linear", {})
    settings = MethodSettings(StackFormat.of_names(("A", "B"), (8, 8)))
    FittedMethod(OWN, method, method.build(settings), settings).save(tmp_path / "run")
    again = FittedMethod.load(tmp_path / "run", "cpu")
    assert again.method == method
    assert again.settings == settings
    (tmp_path / "run/model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match=r"model.safetensors: damaged"):
        FittedMethod.load(tmp_path / "run", "cpu")
    text = (tmp_path / "run/method.json").read_text().replace("lab-linear", "lab-other")
    (tmp_path / "run/method.json").write_text(text)
    with pytest.raises(UserError, match="needs method lab-other:linear; run pip install lab-other"):
        FittedMethod.load(tmp_path / "run", "cpu")


def test_subsets_are_proper_and_alike() -> None:
    """Every one with the same probability, of what a patient has; each example has its own."""
    present = torch.tensor([[True, True, True, False]]).expand(3000, -1)
    random = [generator(0, b) for b in range(len(present))]
    chosen = proper_subsets(present, random)
    codes = (chosen * torch.tensor([1, 2, 4, 8])).sum(1)
    counts = torch.bincount(codes, minlength=16)
    assert counts[[0, 7]].sum() == 0
    assert counts[8:].sum() == 0
    assert counts[1:7].min() > 400
    random = [generator(0, b) for b in range(len(present))]
    nothing = proper_subsets(present, random, nothing=True).sum(1) == 0
    assert 0.03 < float(nothing.float().mean()) < 0.07
