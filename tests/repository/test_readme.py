"""What the README shows is what works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=["patient", "arrays", "own arrays", "plugin"])
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    if "completion" in names:
        assert names["flair"].shape == (1, 128, 128)  # type: ignore[attr-defined]
        assert names["said"]["source"] == "missing"  # type: ignore[index]
        assert (tmp_path / "out/T1Gd.nii.gz").exists()
    if "x" in names:
        assert names["x"].shape == (1, *names["truth"].shape)  # type: ignore[attr-defined]
    if "head" in names:
        image = names["image"].numpy()[0]  # type: ignore[attr-defined]
        assert abs(image[names["head"]].mean() - 0.4) < 0.02
        assert image.shape == names["std"][0].shape == (128, 128)  # type: ignore[index]


def test_the_plugin_is_as_short_as_promised() -> None:
    plugin = next(block for block in BLOCKS if "Operator)" in block)
    assert len([line for line in plugin.splitlines() if line.strip()]) <= 25


def test_every_relative_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("packages/*/README.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
