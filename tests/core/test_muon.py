"""Muon."""

from __future__ import annotations

import torch
from any2all_core import (
    PriorSettings,
    StackFormat,
)
from any2all_core.muon import Muon, groups, orthogonal
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.testing import MODALITIES, TINY_RECIPE


def test_muon_moves_along_the_orthogonal_factor() -> None:
    matrix = torch.randn(6, 20, generator=generator(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert float((found * (u @ v)).sum() / (found.norm() * (u @ v).norm())) > 0.98
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    torch.testing.assert_close(orthogonal(matrix.mT), found.mT, atol=1e-4, rtol=0)


def test_muon_takes_convolutions_in_any_layout_and_adam_the_rest() -> None:
    torch.manual_seed(0)
    settings = PriorSettings(StackFormat.of_names(MODALITIES, (32, 32)), levels="separate")
    plain, last = (build_prior(TINY_RECIPE, settings) for _ in range(2))
    last.load_state_dict(plain.state_dict())
    last.unet.to(memory_format=torch.channels_last)
    x, t = torch.randn(2, 3, 32, 32, generator=generator(4)), torch.tensor([10, 900])
    for prior in (plain, last):
        optimizer = Muon(groups(prior.unet, 1e-3, 5e-3))
        for _ in range(2):
            prior.predict(x, t).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for (name, one), two in zip(plain.named_parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=0, msg=name)
    adam, muon = groups(plain.unet, 1e-3, 5e-3)
    assert all(weight.ndim >= 2 for weight in muon["params"])
    ids = {id(weight) for weight in muon["params"]}
    assert id(plain.unet.conv_in.weight) not in ids
    assert id(plain.unet.conv_out.weight) not in ids
    assert id(plain.unet.mid_block.resnets[0].conv1.weight) in ids
    assert len(adam["params"]) + len(muon["params"]) == len(list(plain.unet.parameters()))


def test_muons_adam_is_adam() -> None:
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2)]
    own = Muon([{"params": [weights[0]], "lr": 0.01, "matrix": False}])
    theirs = torch.optim.Adam([weights[1]], lr=0.01)
    for _ in range(5):
        for weight, optimizer in zip(weights, (own, theirs), strict=True):
            weight.grad = weight.detach() ** 3
            optimizer.step()
    torch.testing.assert_close(*weights)
