"""A plugin on the path, by name."""

from __future__ import annotations

import pytest
from any2all_app.grammar import modality_specs
from any2all_core import make_sampler
from any2all_operators import UserError
from builders.plugins import SAMPLER, Install


def test_a_plugin_runs_with_typed_options(install: Install) -> None:
    install("lab-grey", "grey", SAMPLER)
    assert vars(make_sampler("grey", {"level": "0.25"})) == {"steps": 1, "level": 0.25}
    with pytest.raises(UserError, match=r"no option 'lvl'.*steps=1 \(int\), level=0.5 \(float\)"):
        make_sampler("grey", {"lvl": "1"})
    assert modality_specs("T1=lab-grey:grey:level=2")[0].operator == "lab-grey:grey"
    with pytest.raises(UserError, match="steps=many is not of type int"):
        make_sampler("grey", {"steps": "many"})
