"""The plugin registry, with packages as an installer leaves them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from any2all_app.grammar import modality_specs
from any2all_core import make_sampler
from any2all_core.registry import find_plugin, list_plugins
from any2all_operators import UserError

SAMPLER = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Grey:
    "Half grey, whatever the data."
    steps: int = 1
    level: float = 0.5

    def __call__(self, prior, measurement, noise, progress=None):
        return 0 * noise() + self.level
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Lay down a distribution: its module and its metadata, on the import path."""
    monkeypatch.syspath_prepend(tmp_path)

    def place(dist: str, name: str, code: str, group: str = "any2all.samplers") -> None:
        module = dist.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:Grey\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return place


def test_built_ins_register_as_third_parties_do() -> None:
    names = [plugin.name for plugin in list_plugins("any2all.samplers")]
    assert {"ddpm", "mds", "mps"} <= set(names)
    assert {p.name for p in list_plugins("any2all.operators")} >= {"clean", "missing", "kspace"}


def test_a_plugin_is_listed_without_being_imported(install) -> None:  # type: ignore[no-untyped-def]
    install("lab-grey", "grey", "raise RuntimeError('imported')")
    assert "grey" in [plugin.name for plugin in list_plugins("any2all.samplers")]
    assert "lab_grey" not in sys.modules


def test_a_plugin_runs_with_typed_options(install) -> None:  # type: ignore[no-untyped-def]
    install("lab-grey", "grey", SAMPLER)
    assert vars(make_sampler("grey", {"level": "0.25"})) == {"steps": 1, "level": 0.25}
    with pytest.raises(UserError, match=r"no option 'lvl'.*steps=1 \(int\), level=0.5 \(float\)"):
        make_sampler("grey", {"lvl": "1"})
    assert modality_specs("T1=lab-grey:grey:level=2")[0].operator == "lab-grey:grey"
    with pytest.raises(UserError, match="steps=many is not of type int"):
        make_sampler("grey", {"steps": "many"})


def test_a_broken_plugin_is_named_and_stops_no_other(install) -> None:  # type: ignore[no-untyped-def]
    install("lab-broken", "broken", "import a_module_that_is_not_there")
    with pytest.raises(UserError, match=r"'broken' of lab-broken 1.2 fails to import .*uninstall"):
        make_sampler("broken")
    assert make_sampler("mds").steps == 20


def test_two_plugins_of_one_name_need_the_qualified_one(install) -> None:  # type: ignore[no-untyped-def]
    install("lab-one", "grey", SAMPLER)
    install("lab-two", "grey", SAMPLER.replace("0.5", "0.9"))
    with pytest.raises(UserError, match="2 packages; say lab-one:grey or lab-two:grey"):
        make_sampler("grey")
    assert vars(make_sampler("lab-two:grey"))["level"] == 0.9


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(
        UserError, match=r"unknown sampler 'mdss'; installed: ddpm, mcs, mds, mean, mmps, mps"
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


def test_a_plugin_of_an_extra_is_there_once_its_packages_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lab-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n"
        "Requires-Dist: torch>=2 ; extra == 'near'\n"
        "Requires-Dist: no-such-package ; extra == 'far'\n"
        "Provides-Extra: near\nProvides-Extra: far\n"
    )
    (folder / "entry_points.txt").write_text(
        "[any2all.operators]\nnear = lab:Near [near]\nfar = lab:Far [far]\nplain = lab:Plain\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = {p.name for p in list_plugins("any2all.operators") if p.distribution == "lab"}
    assert names == {"near", "plain"}
