"""A patient's sampling goes on after an interruption, and its progress is in what it costs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all import Completer, Completion, NamedPrior, Observer
from any2all_app.grammar import modality_specs, sampler_of
from any2all_app.terminal import Pace, duration
from any2all_app.training_slices import tell_step
from any2all_core import DiffusionPrior
from any2all_core.loop import Progress
from any2all_core.prior import Times
from any2all_core.reconstruct import complete, reconstruct
from any2all_core.sampler import Sampled, passes_of
from any2all_core.testing import MODALITIES, tiny_prior
from any2all_operators import BlockDiagonal, Identity, Measurement
from builders.command_line import Run

pytestmark = pytest.mark.slow

FEW = ("--sampler", "mds:steps=3", "--batch-size", 2, "--draws", 2)


class Counted(Observer):
    """Keeps what it is told, and runs ``then`` at the given count of progress calls."""

    def __init__(self, at: int = 0, then: object = None) -> None:
        self.at, self.then = at, then
        self.counts: list[tuple[int, int]] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(
        self, what: str, done: int, total: int, detail: str = "", *, share: float | None = None
    ) -> None:
        if not what.startswith("sampling"):
            return
        self.counts.append((done, total))
        if len(self.counts) == self.at:
            self.then()  # type: ignore[operator]


def completer(prior: Path, sampler: str = "mds:steps=3", **options: Any) -> Completer:
    known = tuple(modality_specs("T1=clean,FLAIR=kspace:coils=2:acs_lines=4"))
    options = {"draws": 2, "batch_size": 2, "seed": 3} | options
    return Completer(
        NamedPrior.load(prior, "float32"), known, sampler_of(sampler), "mds", **options
    )


def run(asked: Completer, patient: Path, out: Path, observer: Observer) -> Completion:
    measured = asked.measure(patient)
    kept = asked.kept(out, measured)
    completion = asked.complete(measured, observer, kept)
    completion.save(out)
    kept.clear()
    return completion


def stop() -> None:
    raise KeyboardInterrupt


def loaded(path: Path) -> Any:
    return nib.load(path)


def kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*-kept-*/*.npy"))


def test_after_ctrl_c_and_a_kill_the_images_are_those_of_one_run(
    patient: Path, prior_folder: Path, tmp_path: Path
) -> None:
    whole = run(completer(prior_folder), patient, tmp_path / "whole", Observer())
    with pytest.raises(KeyboardInterrupt):
        run(completer(prior_folder), patient, tmp_path / "out", Counted(6, stop))
    assert len(kept_in(tmp_path)) == 1, "the first of four batches"
    child = os.fork()
    if not child:  # killed within a batch, as by the system when memory runs out
        killed = Counted(6, lambda: os.kill(os.getpid(), signal.SIGKILL))
        run(completer(prior_folder), patient, tmp_path / "out", killed)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(kept_in(tmp_path)) == 2
    cut = kept_in(tmp_path)[0]
    cut.write_bytes(cut.read_bytes()[:90])  # as a power failure may leave it: drawn again
    last = Counted()
    again = run(completer(prior_folder), patient, tmp_path / "out", last)
    assert torch.equal(again.draws, whole.draws)
    for name in MODALITIES:
        one, other = (loaded(tmp_path / way / f"{name}.nii.gz") for way in ("whole", "out"))
        np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
    assert last.said == ["continuing: 1 of 4 batches of this request are finished"]
    assert last.counts[0] == (0, 18), "of what is left: 3 batches of 2 slices, 3 passes each"
    assert not list(tmp_path.glob(".*")), "nothing is left of a whole result"


def test_another_request_never_takes_up_what_was_kept(
    patient: Path, prior_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(completer(prior_folder), patient, tmp_path / "out", Counted(6, stop))
    same = completer(prior_folder)
    folder = same.kept(tmp_path / "out", same.measure(patient)).folder
    assert kept_in(tmp_path)[0].parent == folder
    others = [
        completer(prior_folder, seed=4),
        completer(prior_folder, "mds:steps=4"),
        completer(prior_folder, "mds:steps=3,eta=0.5"),
        completer(prior_folder, draws=3),
        completer(prior_folder, batch_size=1),
        completer(prior_folder, slices="0:3"),
        completer(prior_folder, simulate=True),
    ]
    found = {other.kept(tmp_path / "out", other.measure(patient)).folder for other in others}
    # another prior of the same kind, and an image that only the score would look at
    tiny_prior(seed=1).save(tmp_path / "prior")
    other = completer(tmp_path / "prior")
    found.add(other.kept(tmp_path / "out", other.measure(patient)).folder)
    image = loaded(patient / "T1Gd.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata() + 1, image.affine), patient / "T1Gd.nii.gz")
    found.add(same.kept(tmp_path / "out", same.measure(patient)).folder)
    assert len(found) == len(others) + 2
    assert folder not in found
    # a folder of the right name with another request in it
    (folder / "request.json").write_text("{}")
    assert same.kept(tmp_path / "out").get(range(2)) is None


def test_new_people_go_on_and_the_command_leaves_nothing(
    any2all: Run, prior_folder: Path, patient: Path, tmp_path: Path
) -> None:
    asked = Completer(
        NamedPrior.load(prior_folder, "float32"),
        (),
        sampler_of("ddpm:steps=3"),
        "ddpm",
        draws=3,
        batch_size=2,
    )
    whole = asked.draw()
    with pytest.raises(KeyboardInterrupt):
        asked.draw(Counted(5, stop), asked.kept(tmp_path / "out"))
    assert len(kept_in(tmp_path)) == 1
    assert torch.equal(asked.draw(kept=asked.kept(tmp_path / "out")).draws, whole.draws)
    asked.kept(tmp_path / "out").clear()
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--modalities", "T1=clean"),
        *("--output", "out", *FEW),
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob(".*"))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["network_passes"] == 3


class Counting:
    """A prior that counts the passes through its network, forward and backward."""

    def __init__(self, prior: DiffusionPrior) -> None:
        self.prior, self.passes = prior, 0
        self.modalities, self.schedule, self.levels = prior.modalities, prior.schedule, prior.levels

    def denoise(self, x_t: torch.Tensor, t: Times) -> torch.Tensor:
        x0_hat = self.prior.denoise(x_t, t)
        self.passes += 1
        if x0_hat.requires_grad:
            x0_hat.register_hook(self.count)
        return x0_hat

    def count(self, gradient: torch.Tensor) -> None:
        self.passes += 1


@pytest.mark.parametrize("levels", ["shared", "separate"])
@pytest.mark.parametrize("text", ["mmps:steps=6,iterations=2", "mps:steps=3", "mds:steps=4"])
def test_a_sampler_says_how_many_passes_it_takes(text: str, levels: str) -> None:
    prior, sampler = Counting(tiny_prior(levels=levels)), sampler_of(text)
    image = torch.rand(1, 32, 32)
    data = {"T1": image, "FLAIR": torch.zeros(1, 0), "T1Gd": torch.zeros(1, 0)}
    asked = Measurement(complete(BlockDiagonal({"T1": Identity()}), prior), data)
    reconstruct(prior, asked.operator, {"T1": image}, sampler)
    assert passes_of(Sampled(prior, sampler), asked) == prior.passes


def test_the_time_left_is_of_the_whole_pace() -> None:
    pace = Pace(began=100.0, first=20 / 60, share=20 / 60)
    assert pace.left(130.0) is None
    pace.share = 30 / 60
    assert pace.left(130.0) == pytest.approx(90.0), "3 s each; what was done before takes no time"
    assert [duration(s) for s in (4.4, 99, 100, 3000, 7500)] == [
        *("4 s", "99 s", "2 min", "50 min", "2 h 05 min")
    ]


def test_a_step_at_half_size_counts_as_a_quarter() -> None:
    class Shares(Observer):
        def __init__(self) -> None:
            self.found: list[float | None] = []

        def progress(
            self, what: str, done: int, total: int, detail: str = "", *, share: float | None = None
        ) -> None:
            self.found.append(share)

    shares = Shares()
    for step in (0, 3, 6, 8, 10):
        tell_step(shares, 10, Progress(step, 0.5, 1.0), coarse=0.6)
    assert shares.found == pytest.approx([0.0, 0.75 / 5.5, 1.5 / 5.5, 3.5 / 5.5, 1.0])
