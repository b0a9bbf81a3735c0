"""Train a method on patients, and write it into a folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from any2all_core.checkpoint import identity_of, prepare_output
from any2all_core.fitting import fit as fit_on
from any2all_core.loop import TrainingRun
from any2all_core.method import Method, MethodSettings
from any2all_core.named_methods import GROUP, make_method, method_of
from any2all_core.options import parse_options
from any2all_core.registry import find_plugin
from any2all_operators import UserError

from any2all_app.grammar import name_and_options, name_values
from any2all_app.judging import judge_method
from any2all_app.observer import SILENT, Observer
from any2all_app.shared_run import share
from any2all_app.training import Training, training_slices
from any2all_app.training_slices import tell_step

RECIPE = "small"


@dataclass(frozen=True)
class Fitting:
    """Options for training a method.

    Parameters
    ----------
    method
        NAME[:OPTION=VALUE...] of an installed method; None takes the resumed run's method.
    data, validation, modalities, resume, precision, incomplete
        As in :class:`any2all_app.Training`, so that both are trained on the same slices.
    recipe
        One of the method's presets. This project's methods have "small" and "paper".
    changes
        {name: value as text} of the method's options, beside those in ``method``.
    """

    method: str | None
    data: str
    validation: Path | None = None
    modalities: tuple[str, ...] | None = None
    recipe: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    resume: bool = False
    precision: str = "auto"
    incomplete: bool = False


def fit(fitting: Fitting, output: str | Path, observer: Observer = SILENT) -> Path:
    """Train a method on the same slices as :func:`any2all_app.train`.

    Parameters
    ----------
    fitting
        The method and its data.
    output
        A new folder for the method, or the folder of the run to continue.
    observer
        Receives the progress, and at the end a warning for each image of which a copy is nearer to
        the truth than an answer.

    Returns
    -------
    Path
        The method's folder. Its folder ``best`` has the weights with the best validation score.

    Raises
    ------
    UserError
        If the data, the method or the folder can't be used.
    any2all_core.loop.Stopped
        On Ctrl-C or SIGTERM; the run is saved.
    """
    output = Path(output)
    if share()[1] > 1:
        raise UserError("--method: a method trains in one process; start it without torchrun")
    name, method = _method(fitting, output)
    prepare_output(output, fitting.resume)
    asked = Training(
        fitting.data, fitting.validation, fitting.modalities, incomplete=fitting.incomplete
    )
    found = training_slices(asked, True, observer)
    settings = MethodSettings(found.settings.format, found.settings.training)
    observer.say(f"{name} is {found}")
    report = functools.partial(tell_step, observer, method.steps)
    run = TrainingRun(output, fitting.resume, fitting.precision, report=report)
    fit_on(method, found.data, settings, run, name=name)
    judge_method(output, found.data.validation, observer)
    return output


def _method(fitting: Fitting, output: Path) -> tuple[str, Method]:
    """Return the qualified name and the method; a resumed run keeps its own, with changes."""
    asked, texts = name_and_options(fitting.method) if fitting.method is not None else ("", [])
    options = name_values(texts, f"method {asked} option")
    if twice := set(options) & set(fitting.changes):
        raise UserError(f"method {asked}: {', '.join(sorted(twice))} is given twice")
    options |= fitting.changes
    if not fitting.resume:
        plugin = find_plugin(GROUP, asked)
        preset = fitting.recipe or (RECIPE if RECIPE in plugin.load().presets else None)
        return plugin.qualified, make_method(plugin.qualified, options, preset)
    was = identity_of(output)
    if "method" not in was:
        raise UserError(f"--method {asked}: the run in {output} trains a prior; leave --method out")
    name = str(was["method"])
    if fitting.method is not None and find_plugin(GROUP, asked).qualified != name:
        raise UserError(f"--method {asked}: the run in {output} trains {name}; leave --method out")
    if fitting.recipe is not None:
        raise UserError("--recipe: a resumed run keeps its own recipe; leave it out")
    begun = method_of(name, was["recipe"])
    changed = parse_options(type(begun), options, f"method {name}")
    return name, dataclasses.replace(begun, **changed)
