"""The plugin registry, with packages as an installer leaves them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from any2all_core import make_sampler
from any2all_core.registry import list_plugins
from any2all_operators import UserError
from builders.plugins import SAMPLER, Install


def test_a_plugin_is_listed_without_being_imported(install: Install) -> None:
    install("lab-grey", "grey", "raise RuntimeError('imported')")
    assert "grey" in [plugin.name for plugin in list_plugins("any2all.samplers")]
    assert "lab_grey" not in sys.modules


def test_a_broken_plugin_is_named_and_stops_no_other(install: Install) -> None:
    install("lab-broken", "broken", "import a_module_that_is_not_there")
    install("lab-grey", "grey", SAMPLER)
    with pytest.raises(UserError, match=r"'broken' of lab-broken 1.2 fails to import .*uninstall"):
        make_sampler("broken")
    assert make_sampler("grey").steps == 1


def test_two_plugins_of_one_name_need_the_qualified_one(install: Install) -> None:
    install("lab-one", "grey", SAMPLER)
    install("lab-two", "grey", SAMPLER.replace("0.5", "0.9"))
    with pytest.raises(UserError, match="2 packages; say lab-one:grey or lab-two:grey"):
        make_sampler("grey")
    assert vars(make_sampler("lab-two:grey"))["level"] == 0.9


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
