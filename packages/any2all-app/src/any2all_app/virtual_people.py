"""Make a cohort of virtual people, which any2all-virtual simulates."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from any2all_core.stack_format import StackFormat
from any2all_data.cohort_entry import SIMULATED, Entry, Split
from any2all_data.kinds import kind_for
from any2all_data.normalise import Array
from any2all_data.patient import oriented
from any2all_data.prepare import Outcome
from any2all_data.splits import SplitCandidate, assigned, splits_of
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_mri.intensity import mr_scale
from any2all_operators import UserError

from any2all_app.finding import Preparing, given_kinds
from any2all_app.observer import SILENT, Observer
from any2all_app.preparing import finish_cohort, open_cohort, prepare_each

VIRTUAL_MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
EXTENT = 180.0
"""Height of a virtual head in mm."""


def prepare_virtual(
    cohort: str, count: int, preparing: Preparing, observer: Observer = SILENT
) -> list[Outcome]:
    """Make a cohort of virtual people, or add them to it.

    Parameters
    ----------
    cohort
        Path or URL of a new cohort, or of one to append to.
    count
        Number of people. Their seeds count up from that of ``preparing.preparation``.
    preparing
        Options for making the cohort.
    observer
        Receives the progress.

    Returns
    -------
    list of Outcome
        One per person: prepared, unchanged, or refused with the reason.

    Raises
    ------
    UserError
        If virtual people lack a modality, the spacing is missing, or any2all-virtual is not
        installed.
    """
    if find_spec("any2all_virtual") is None:
        raise UserError(f"--virtual {count} needs any2all-virtual; run pip install any2all-virtual")
    names = preparing.modalities or VIRTUAL_MODALITIES
    if count < 1 or not set(names) <= set(VIRTUAL_MODALITIES) or preparing.spacing is None:
        mm = "native" if preparing.spacing is None else ",".join(map(str, preparing.spacing))
        raise UserError(
            f"--virtual {count} with modalities {', '.join(names)} and spacing {mm}: expected at "
            f"least 1 person, some of {', '.join(VIRTUAL_MODALITIES)}, and a spacing in mm"
        )
    if preparing.reference not in names:
        raise UserError(f"--reference {preparing.reference}: expected one of {', '.join(names)}")
    before = CohortStore.find(cohort)
    there = splits_of(before.patients()) if before else {}
    first = preparing.preparation.seed
    people = {f"virtual-{first + k:05d}": first + k for k in range(count)}
    groups = assigned(
        preparing.split, [SplitCandidate(name, name, len(names)) for name in people], there
    )
    own = given_kinds(preparing, before)
    store = open_cohort(cohort, names, preparing, own, virtual=True)
    plans = [VirtualPlan(name, groups[name], k) for name, k in people.items()]
    preparing = dataclasses.replace(preparing, preparation=Preparation())
    outcomes = prepare_each(plans, cohort, preparing, observer)
    finish_cohort(store, outcomes, preparing, there)
    return outcomes


@dataclass(frozen=True)
class VirtualPlan:
    """A virtual person to simulate; see :class:`any2all_data.prepare.PatientPlan`."""

    patient: str
    split: Split
    seed: int

    def origin(self, format_: StackFormat) -> dict[str, str]:
        """Return the seed."""
        return {"seed": str(self.seed)}

    def prepared(self, format_: StackFormat, preparation: Preparation) -> tuple[Array, Entry, None]:
        """Simulate images (Z, M, H, W) on the cohort's grid, and make their entry."""
        from any2all_virtual import virtual_person

        (height, width), grid = format_.size, format_.known_grid
        assert grid.spacing is not None
        depth = round(EXTENT / grid.spacing[2])
        person = virtual_person(self.seed, spacing=grid.spacing, shape=(width, height, depth))
        turned = {m: oriented(person.images[m]) for m in format_.names}
        images = np.stack(
            [np.asarray(turned[m].dataobj, np.float32).transpose(2, 1, 0) for m in turned], 1
        )
        entry = Entry(
            split="train",
            affine=next(iter(turned.values())).affine.tolist(),
            present=list(format_.names),
            reference=grid.reference,
            scale={
                modality.name: mr_scale(images[:, m])
                for m, modality in enumerate(format_.modalities)
                if not kind_for(modality).physical
            },
            notes=[SIMULATED],
        )
        return images, entry, None
