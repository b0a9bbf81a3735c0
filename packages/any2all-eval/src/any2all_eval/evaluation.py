"""The evaluation of a prior and of samplers on held-out patients, from studies to a report."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from any2all_app.observer import SILENT, Observer
from any2all_app.report import versions
from any2all_app.shared_run import begin, wait_for_all
from any2all_app.terminal import duration
from any2all_core.named_priors import prior_folder
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_operators import UserError

from any2all_eval.evaluator import Evaluator
from any2all_eval.generation import check, generate
from any2all_eval.measures import check_challenges, load_measures
from any2all_eval.parts import Part, undersampling
from any2all_eval.patients import Patient, Slices, check_somebody, find_people
from any2all_eval.quick import FEW, PATIENTS, quick_look
from any2all_eval.references import References
from any2all_eval.solvers import Solvers
from any2all_eval.study import Study, read_study
from any2all_eval.writing import Writer, Written

JUDGED = ("test", "val")
DEFAULT_PRIOR = "lgg"
VIRTUAL = "virtual people, simulated; no such people exist"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated.

    Parameters
    ----------
    studies
        readme, reconstruction, synthesis, mixed, generation, or your own TOML files.
    input
        A cohort, a folder with the folders train, val and test of patients, or patients without a
        split, who are all judged: a folder of patients, or one patient.
    prior
        A folder, an installed prior's name, or hf:OWNER/NAME. None takes ``lgg``, or no prior if
        there are methods.
    methods
        Folders of trained methods, which are compared with the samplers of the prior.
    samplers
        NAME[:OPTION=VALUE...] in place of the studies' samplers.
    draws
        The mean of this many draws is judged. None takes the number of the studies.
    group
        "test", or "val" to tune on.
    patients
        Take the first N patients. None takes all.
    slices, every, adjacent
        Which slices of each patient: see ``Slices``. By default all that show a head.
    references
        Whether references without a prior are judged, too.
    lpips
        Whether LPIPS is computed; torchvision downloads its network.
    inception
        File of the weights that FID needs.
    metrics
        Challenges whose metrics of whole volumes are computed: synthrad, brasyn.
    shown
        Number of patients whose images are in report.html.
    batch_size
        Slices per network call.
    precision, device
        As of ``DiffusionPrior.load``.
    quick
        Whether to report on a few slices of a few patients only, cheap methods first. The same
        evaluation without ``quick`` and with ``resume`` continues from there.
    """

    studies: Sequence[str]
    input: str
    prior: str | None = None
    methods: Sequence[str] = ()
    samplers: Sequence[str] = ()
    draws: int | None = None
    group: str = "test"
    patients: int | None = None
    slices: int | None = None
    every: int = 1
    adjacent: bool = False
    references: bool = True
    lpips: bool = False
    inception: Path | None = None
    metrics: Sequence[str] = ()
    shown: int = 3
    batch_size: int = 8
    precision: str = "auto"
    device: str = "auto"
    quick: bool = False

    def __post_init__(self) -> None:
        if self.group not in JUDGED:
            raise UserError(f"--group {self.group}: expected {' or '.join(JUDGED)}")
        _ = self.which  # refuses what contradicts itself

    @property
    def which(self) -> Slices:
        """The slices of each patient that are judged."""
        return Slices(self.slices, self.every, self.adjacent)


def evaluate(
    asked: Evaluation, output: str | Path, observer: Observer = SILENT, *, resume: bool = False
) -> bool:
    """Compute every part that is missing, and write the report of all of them.

    Parameters
    ----------
    asked
        What is evaluated.
    output
        A new folder, or the folder of the run to continue. It gets report.html, report.json,
        results.csv and tables.
    observer
        Gets each finished part, each result that a simple reference beats, and each claim.
    resume
        Whether to continue the run in ``output``.

    Returns
    -------
    bool
        False where a patient was refused.

    Raises
    ------
    UserError
        If a study, the patients or the folder can't be used.
    """
    began = time.monotonic()
    output, group, slices = Path(output), asked.group, asked.which
    people = find_people(asked.input, group)
    name = asked.prior or (None if asked.methods else DEFAULT_PRIOR)
    folder = None if name is None else prior_folder(name)
    sha256 = None if folder is None else weights_hash(folder)
    loaded = None if folder is None else DiffusionPrior.load(folder, asked.precision, asked.device)
    solvers = Solvers.load(loaded, asked.methods, asked.device)
    prior = solvers.frame
    studies = [
        solvers.of(_changed(read_study(study, prior.format), asked.samplers, asked.draws))
        for study in asked.studies
    ]
    texts = {text for study in studies for text in study.samplers}
    samplers_used = {text: solvers.said(text) for text in sorted(texts)}
    named = dict(list(people.groups[group].items())[: asked.patients])
    voxels = check_somebody(named, prior)
    check(studies, people, prior, group=group, held_out=named, slices=slices)
    measures = load_measures(asked.lpips, asked.inception, asked.metrics)
    without = check_challenges(measures.challenges, prior, named, slices)
    measures = replace(measures, left_out=[*measures.left_out, *without])
    references = None
    if asked.references:
        references = References(prior, people, output / "tuned.json", asked.quick)
    told = (people.note, references.note if references else "", voxels)
    notes = [note for note in told if note]
    for said in (*measures.left_out, *notes):
        observer.say(said)
    identity = {
        "studies": [asdict(study) for study in studies],
        "prior": sha256,
        "input": asked.input,
        "group": group,
        "people": {g: sorted(members) for g, members in people.groups.items()},
        "samplers": samplers_used,
        "slices": asdict(slices),
        "references": asked.references,
        "perception": list(measures.names) or None,
        "metrics": list(asked.metrics) or None,
        "precision": None if loaded is None else str(next(loaded.unet.parameters()).dtype),
        "batch_size": asked.batch_size,
        "versions": versions(),
    }
    evaluator = Evaluator(
        studies=studies,
        solvers=solvers,
        references=references,
        output=output,
        slices=slices,
        batch_size=asked.batch_size,
        measures=measures,
        observer=observer,
    )
    parts = evaluator.parts()
    doubled = [p for p, n in Counter(part.path(Path()).name for part in parts).items() if n > 1]
    if doubled:
        raise UserError(
            f"two rows or studies would both be kept as {doubled[0]}; rename one (letters and "
            "digits tell names apart)"
        )
    _expect_answers(studies, parts)
    if asked.quick and not parts:
        raise UserError("--quick: draws from nothing have no quick look; leave it out")
    rank, processes = begin(output, identity, resume)
    facts: dict[str, Any] = {
        "prior": {"name": "none" if name is None else Path(name).name, "sha256": sha256},
        "who": VIRTUAL if people.virtual else "patients",
        "prior_is_virtual": prior.settings.virtual,
        "input": {"group": group},
        "versions": identity["versions"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {prior.device}",
        "left_out": {study.name: study.left_out for study in studies if study.left_out},
        "samplers": samplers_used,
        "measures_left_out": list(measures.left_out),
        "notes": [*notes, *undersampling(parts, evaluator.operator)],
        "not_for_clinical_use": True,
    }
    writer = Writer(studies, parts, list(named), facts, references, output, asked.shown)
    if asked.quick:
        if rank == 0:
            _look(evaluator, named, writer, began)
        return True
    own = {n: named[n] for n in list(named)[rank::processes]}
    whole = evaluator.run(own, writer.rewrite if rank == 0 else None)
    made = {}
    if rank == 0:
        made = generate(
            studies,
            solvers,
            people,
            held_out=named,
            slices=slices,
            output=output,
            distances=measures.sets,
            observer=observer,
        )
    if processes > 1:
        wait_for_all()
    if rank == 0:
        _tell(writer.write(made), output, observer)
    return whole


def _expect_answers(studies: Sequence[Study], parts: Sequence[Part]) -> None:
    """Raise UserError for a sampler that can answer none of the rows that name it."""
    answering = {part.method for part in parts}
    rows = [(study, row) for study in studies for row in study.rows]
    for sampler in sorted({s for x in studies for s in x.samplers if s not in x.methods}):
        asked = [row for study, row in rows if sampler in study.samplers_of(row)]
        if asked and all(row.known for row in asked) and sampler not in answering:
            raise UserError(
                f"{sampler} takes images only, and each of its rows has another measurement "
                f"({asked[0].name}); leave this sampler out"
            )


def _look(evaluator: Evaluator, named: Mapping[str, str], writer: Writer, began: float) -> None:
    """Take a quick look at the first patients that can be judged, and say what it left out."""
    observer = evaluator.observer
    patients: dict[str, Patient] = {}
    for name, path in named.items():
        if len(patients) < PATIENTS:
            patient, _ = evaluator.read(name, path)
            patients |= {name: patient} if patient else {}
    done, total = quick_look(evaluator, patients, began, writer.rewrite)
    _tell(writer.write({}, finished=False), evaluator.output, observer)
    observer.say(
        f"a quick look in {duration(time.monotonic() - began)}: {done} of {total} results, of "
        f"{FEW} slices each; patients: {len(patients)}. For the whole study, give the same command "
        "with --resume in the place of --quick; it reuses these results"
    )


def _tell(written: Written, output: Path, observer: Observer) -> None:
    """Report the claims, the beaten results, and where the report is."""
    for claim in written.claims:
        if claim.steps:
            observer.say(f"{claim.text}: {claim.decision}")
    if written.lines:
        for said in (written.beaten[0], *written.beaten[1]):
            observer.say(said)
    observer.say(f"report.html, results.csv, tables in {output}")


def _changed(study: Study, samplers: Sequence[str], draws: int | None) -> Study:
    """The study with the command line's samplers and draws; unconditional draws keep their own."""
    if not all(row.known for row in study.rows):
        return study
    if samplers:
        rows = tuple(replace(row, samplers=()) for row in study.rows)
        study = replace(study, samplers=tuple(samplers), rows=rows)
    return replace(study, draws=draws or study.draws)
