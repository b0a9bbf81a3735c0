"""Plugins as strangers install them: real wheels, in an environment that was empty."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.installing

ROOT = Path(__file__).parents[2]
INSTALL = "pip install any2all-cli any2all-demo"
PAGE = (ROOT / "docs/write-a-plugin.md").read_text()
EXAMPLES = ROOT / "examples/plugins"

Names = Callable[[list[str]], None]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory, wheel_folder: Path) -> Shell:
    """A shell in a virtual environment without this project, where pip finds its packages.

    What others make (torch and so on) is that of the environment of the tests: pip finds it
    installed, and need not unpack it again.
    """
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(str(of_others(folder / "others")))
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {
        "PATH": f"{folder / 'venv/bin'}:/usr/bin:/bin",
        "PIP_FIND_LINKS": f"{wheel_folder} {os.environ.get('PIP_FIND_LINKS', '')}".strip(),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "1",  # of all that is installed little is imported
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }

    def run(command: str, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    run(INSTALL, folder)
    return run


OURS = re.compile(r"_*(editable|any2all|pip|setuptools)", re.I)


def of_others(folder: Path) -> Path:
    """Make a folder of links to all installed packages but those of this project, and pip."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not OURS.match(entry.name) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def write_package(folder: Path, name: str, module: str, entry: str, depends: str = "") -> Path:
    folder = folder / name
    folder.mkdir()
    stem = name.replace("-", "_")
    (folder / f"{stem}.py").write_text(module)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\ndependencies = [{depends}]\n'
        f'[project.entry-points."any2all.operators"]\n{entry} = "{stem}:Blur"\n'
        f'[tool.hatch.build]\nonly-include = ["{stem}.py"]\n'
    )
    return folder


@pytest.fixture(scope="module")
def examples(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The examples, installed by their names."""
    names = sorted(folder.name for folder in EXAMPLES.iterdir())
    shell(f"pip install -q {' '.join(names)}", tmp_path_factory.getbasetemp())
    return names


@pytest.fixture(scope="module")
def labs(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Three installed packages: one that fails to import, and two with an operator ``blur``."""
    folder = tmp_path_factory.mktemp("labs")
    module = (
        "from dataclasses import dataclass\nfrom any2all_operators import Identity\n"
        "@dataclass(frozen=True)\nclass Blur(Identity):\n    'Of {}.'\n    size: int = 1\n"
    )
    packages = [
        write_package(folder, "lab-broken", "raise RuntimeError('no licence')", "broken"),
        write_package(folder, "lab-one", module.format("lab-one"), "blur"),
        write_package(folder, "lab-two", module.format("lab-two"), "blur"),
    ]
    shell(f"pip install -q --no-build-isolation {' '.join(map(str, packages))}", folder)


@pytest.fixture
def uninstalled_after(shell: Shell, tmp_path: Path) -> Iterator[Names]:
    names: list[str] = []
    yield names.extend
    shell(f"pip uninstall -q -y {' '.join(names)}", tmp_path)


def test_the_page_is_followed_literally(
    shell: Shell, tmp_path: Path, uninstalled_after: Names
) -> None:
    uninstalled_after(["any2all-stripes"])
    files = re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", PAGE, re.S | re.M)
    commands = re.findall(r"^```sh\n(.*?)^```", PAGE, re.S | re.M)
    assert len(files) == 2
    assert len(commands) == 3
    install, make_folder = commands[0].splitlines()
    assert install == INSTALL
    shell(make_folder, tmp_path)
    for name, text in files:
        (tmp_path / name).write_text(text)
    described = shell(commands[1], tmp_path).stdout
    assert "stripes: Every n-th column of the image is lost." in described
    assert "every=3  (int)" in described
    own = re.search(r"^```python\n(from any2all_core import reconstruct.*?)^```", PAGE, re.S | re.M)
    assert own
    (tmp_path / "test_stripes.py").write_text(own[1])
    shell("python -c 'import test_stripes; test_stripes.test_stripes()'", tmp_path)
    shell(commands[2], tmp_path)
    report = json.loads((tmp_path / "restored/report.json").read_text())
    flair = report["modalities"]["FLAIR"]
    assert flair["options"] == {"every": 2, "noise_std": 0.01}
    assert flair["score"]["psnr"] > flair["score_without_prior"]["psnr"] + 5
    assert (tmp_path / "restored/preview.png").exists()
    # as the page says: without the mask in its adjoint the check fails, and names whose it is
    module = tmp_path / files[1][0]
    module.write_text(module.read_text().replace("return self.forward(data)", "return data"))
    changed = "PYTHONPATH=any2all-stripes any2all plugins stripes --check"
    found = shell(f"{changed} --json", tmp_path, ok=False)
    failed = [row for row in json.loads(found.stdout) if row["check"] != "ok"]
    assert [row["distribution"] for row in failed] == ["any2all-stripes"]
    assert "adjoint" in failed[0]["check"]
    # the faster prox of the page is a prox
    prox = re.search(r"^  ```python\n(.*?)^  ```", PAGE, re.S | re.M)
    assert prox
    extra = "\n".join("  " + line for line in prox[1].splitlines())
    module.write_text(files[1][1] + "\n" + extra + "\n")
    shell(changed, tmp_path)


def test_two_third_party_plugins_work_together(
    shell: Shell, tmp_path: Path, examples: list[str]
) -> None:
    shell(
        "any2all sample --prior phantoms --sampler euler --set steps=10"
        " --modalities A=clean,B=deblur:sigma=1.5 --simulate --slices 1 --output out",
        tmp_path,
    )
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["sampler"] == {"name": "euler", "steps": 10, "weight": 50.0}
    assert report["versions"]["any2all-deblur"] == "0.1.0"
    said = shell(
        "any2all sample --modalities FLAIR=deblur:width=2 --output no", tmp_path, ok=False
    ).stderr
    assert "operator deblur has no option 'width'; its options: kind=gaussian" in said


def test_every_example_installs_and_passes_its_check(
    shell: Shell, tmp_path: Path, examples: list[str]
) -> None:
    assert len(examples) == 7
    rows = json.loads(shell("any2all plugins --check --json", tmp_path).stdout)
    assert {row["distribution"] for row in rows} >= set(examples)
    shell(f"python {ROOT / 'tests/repository/example_physics.py'}", tmp_path)
    shell(
        "any2all sample --prior phantoms --modalities A=clean,B=superres:columns=4 --simulate"
        " --set steps=20 --output out",
        tmp_path,
    )
    report = json.loads((tmp_path / "out/report.json").read_text())
    b = report["modalities"]["B"]
    assert b["score"]["psnr"] > b["score_without_prior"]["psnr"] + 3
    for name in examples:
        code = next((EXAMPLES / name).rglob("any2all_*.py"), None)
        if code is not None:
            assert len(re.findall(r"^ *\S", code.read_text(), re.M)) <= 50


def test_pip_refuses_a_plugin_for_another_version(shell: Shell, tmp_path: Path) -> None:
    package = write_package(tmp_path, "lab-old", "", "old", depends='"any2all-core>=0.9,<1"')
    said = shell(f"pip install --no-build-isolation {package}", tmp_path, ok=False).stderr
    assert "any2all-core<1,>=0.9" in said


@pytest.mark.usefixtures("examples")
def test_a_network_of_monai_becomes_a_prior(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text(
        """
import json, torch
from monai.networks.nets import DiffusionModelUNet
torch.manual_seed(0)
arguments = {
    "spatial_dims": 2, "in_channels": 2, "out_channels": 2, "channels": [32, 64],
    "attention_levels": [False, True], "num_res_blocks": 1, "num_head_channels": 16,
}
network = DiffusionModelUNet(**arguments).eval()
for parameter in network.parameters():  # the last layer begins at zero
    torch.nn.init.normal_(parameter, std=0.1)
x, t = torch.randn(2, 2, 32, 32), torch.tensor([3, 900])
told = {"network_def": {"_target_": "DiffusionModelUNet", **arguments}}
json.dump(told, open("network.json", "w"))
torch.save(network.state_dict(), "model.pt")
torch.save((x, t, network(x, t).detach()), "expected.pt")
"""
    )
    (tmp_path / "compare.py").write_text(
        """
import torch
from any2all_core import load_prior
x, t, expected = torch.load("expected.pt")
found = load_prior("prior", "float32").predict(x, t)
assert expected.std() > 0.1
assert torch.allclose(found, expected, atol=1e-4), (found - expected).abs().max()
"""
    )
    shell("python make.py", tmp_path)
    shell(
        "any2all import monai model.pt --set config=network.json --modalities T1,CT"
        " --image-size 32,32 --output prior",
        tmp_path,
    )
    shell("python compare.py", tmp_path)
    shell("any2all sample --prior prior --sampler ddpm --set steps=3 --output drawn", tmp_path)
    said = shell(
        "any2all import monai model.pt --modalities T1,CT --image-size 32,32 --output no",
        tmp_path,
        ok=False,
    ).stderr
    assert "with --set config=FILE" in said


@pytest.mark.usefixtures("labs")
def test_a_plugin_that_fails_to_import_is_named(shell: Shell, tmp_path: Path) -> None:
    assert "broken" in shell("any2all plugins", tmp_path).stdout
    said = shell("any2all sample --modalities T1=broken", tmp_path, ok=False).stderr
    assert "plugin 'broken' of lab-broken 1.0 fails to import (RuntimeError: no licence)" in said
    checked = shell("any2all plugins broken --check --json", tmp_path, ok=False).stdout
    assert "no licence" in json.loads(checked)[0]["check"]


@pytest.mark.usefixtures("labs")
def test_two_plugins_of_one_name_are_told_apart(shell: Shell, tmp_path: Path) -> None:
    said = shell("any2all sample --modalities T1=blur", tmp_path, ok=False).stderr
    assert "comes from 2 packages; say lab-one:blur or lab-two:blur" in said
    assert "Of lab-two." in shell("any2all plugins lab-two:blur", tmp_path).stdout
    shell(
        "any2all sample --modalities T1=lab-two:blur:size=2 --slices 1 --set steps=1 --output o",
        tmp_path,
    )
