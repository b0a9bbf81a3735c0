"""The samplers' entry points and options."""

from __future__ import annotations

import pytest
from any2all_core import make_sampler
from any2all_core.registry import find_plugin, list_plugins
from any2all_operators import UserError


def test_built_ins_register_as_third_parties_do() -> None:
    names = [plugin.name for plugin in list_plugins("any2all.samplers")]
    assert {"ddpm", "mds", "mps"} <= set(names)
    assert {p.name for p in list_plugins("any2all.operators")} >= {"clean", "missing", "kspace"}


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(
        UserError,
        match=r"sampler 'mdss'; did you mean mds\? Installed: ddpm, mcs, mds, mean, mmps, mps",
    ):
        find_plugin("any2all.samplers", "mdss")


def test_every_option_type_is_read() -> None:
    mds = make_sampler("mds", {"weight": "2.5", "spacing": "uniform", "steps": "9"})
    assert (vars(mds)["weight"], vars(mds)["spacing"], mds.steps) == (2.5, "uniform", 9)
    assert vars(make_sampler("mds", {"weight": "noise"}))["weight"] == "noise"
    paper = vars(make_sampler("mds", {"steps": "9"}, preset="paper"))
    changed = {"steps": 9, "average": 0.0, "eta": 0.85, "weight": 5.0, "spacing": "uniform"}
    assert paper == {"start": "auto", **changed}
    assert vars(make_sampler("mds", {"start": "3"}))["start"] == 3.0
    with pytest.raises(UserError, match=r"spacing=even is not of type sigma \| uniform"):
        make_sampler("mds", {"spacing": "even"})
