"""The studies: rows of inputs, the images that are judged, and the samplers.

A study is a TOML file::

    title = "FLAIR from its k-space, with more and more clean images"
    samplers = ["mds", "mps:steps=100"]     # NAME[:OPTION=VALUE...]
    draws = 1                               # the mean of this many draws is judged

    [[rows]]
    name = "T1+y(FLAIR), R = {R}"
    known = "T1=clean,FLAIR=kspace:acceleration={R}"   # as --modalities; *: all others; MR: all
                                            # others without a physical unit
    scored = "FLAIR"                        # comma-separated; *: all that are not clean
    R = [2, 4, 8]                           # one row for each
    samplers = ["mds"]                      # for this row alone
    through = 10                            # correlation length of the noise across slices, in mm

    [[growing]]                             # rows with one more clean image each
    target = "FLAIR"                        # *: each modality in turn
    measured = "kspace"                     # how the target is measured; left out: it is missing

Rows that are written out come first. A row that names a modality which the prior lacks is left out,
and the report says so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from any2all_app.grammar import ModalitySpec, modality_specs
from any2all_core.stack_format import StackFormat
from any2all_data.kinds import kind_for
from any2all_operators import UserError

SHIPPED = ("readme", "reconstruction", "synthesis", "mixed", "generation")
KEYS: dict[str, type] = {
    "title": str,
    "samplers": list,
    "draws": int,
    "rows": list,
    "growing": list,
}
CLEAN, MISSING = "clean", "missing"


@dataclass(frozen=True)
class Row:
    """One row: the measured modalities, in the prior's order, and the images that are judged.

    Parameters
    ----------
    name
        Its name in the tables.
    known, scored
        The measured modalities, and the images that are judged.
    samplers
        The samplers that answer it. Empty means all samplers of the study.
    through
        Correlation length of the noise across slices, in mm. 0 draws each slice independently.
    """

    name: str
    known: tuple[ModalitySpec, ...]
    scored: tuple[str, ...]
    samplers: tuple[str, ...] = ()
    through: float = 0.0

    @property
    def inputs(self) -> frozenset[str]:
        """FLAIR=kspace:acceleration=4 and so on."""
        return frozenset(
            ":".join([f"{s.modality}={s.operator}", *(f"{k}={v}" for k, v in s.options.items())])
            for s in self.known
        )

    @property
    def clean(self) -> tuple[str, ...]:
        return tuple(s.modality for s in self.known if is_clean(s))

    @property
    def measured(self) -> tuple[str, ...]:
        return tuple(s.modality for s in self.known if not is_clean(s))


@dataclass(frozen=True)
class Study:
    """A study for the images of one prior.

    ``left_out`` is {row: the modalities that the prior lacks for it}. ``methods`` are those of the
    samplers that are methods trained for one task.
    """

    name: str
    title: str
    samplers: tuple[str, ...]
    draws: int
    rows: tuple[Row, ...]
    left_out: dict[str, str]
    methods: tuple[str, ...] = ()

    def samplers_of(self, row: Row) -> tuple[str, ...]:
        """The samplers that answer a row; every method is asked."""
        asked = (*(row.samplers or self.samplers), *self.methods)
        return tuple(text for text in self.samplers if text in asked)


def read_study(name: str, format_: StackFormat) -> Study:
    """Read a shipped study or a TOML file, for a prior of these images. Raises UserError."""
    asked = _asked(name)
    samplers = _samplers(name, asked.get("samplers", ["mds"]))
    draws = asked.get("draws", 1)
    if draws < 1:
        raise UserError(f"study {name}: draws = {draws}, expected at least 1")
    rows: dict[str, Row] = {}
    left_out: dict[str, str] = {}
    for entry in _entries(name, asked, format_.names):
        specs = _specs(entry.known, format_)
        target = [s.strip() for s in entry.scored.split(",")] if entry.scored != "*" else []
        unknown = [m for m in (*(s.modality for s in specs), *target) if m not in format_.names]
        if unknown:
            left_out[entry.name] = ", ".join(dict.fromkeys(unknown))
            continue
        if entry.name in rows:
            raise UserError(f"study {name}: two rows are called {entry.name!r}; rename one")
        where = f"study {name}, row {entry.name!r}"
        scored = _scored(where, specs, target, format_.names)
        own = entry.samplers or samplers
        rows[entry.name] = Row(entry.name, tuple(specs), scored, own, entry.through)
    if not rows:
        missing = ", ".join(left_out.values()) or "no row in it"
        raise UserError(f"study {name}: nothing of it fits this prior ({missing})")
    title = asked.get("title", Path(name).stem)
    used = {text for row in rows.values() for text in row.samplers}
    everywhere = dict.fromkeys([*samplers, *(t for row in rows.values() for t in row.samplers)])
    ordered = tuple(text for text in everywhere if text in used)
    return Study(Path(name).stem, title, ordered, draws, tuple(rows.values()), left_out)


def _asked(name: str) -> dict[str, Any]:
    """The TOML of a study, after a check of its keys and the types of its values."""
    if name in SHIPPED:
        text = files("any2all_eval").joinpath(f"studies/{name}.toml").read_text()
    else:
        path = Path(name)
        if not path.is_file():
            raise UserError(
                f"no study {name}: expected {', '.join(SHIPPED)}, or your own TOML file"
            )
        text = path.read_text()
    try:
        asked = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"study {name}: not TOML ({error}); mend it") from None
    for key, value in asked.items():
        entries = value if key in ("rows", "growing") and isinstance(value, list) else []
        fits = key in KEYS and type(value) is KEYS[key]
        if not fits or not all(isinstance(entry, dict) for entry in entries):
            kinds = ", ".join(f"{k} ({kind.__name__})" for k, kind in KEYS.items())
            raise UserError(f"study {name}: {key} = {value!r}; expected {kinds}")
    return asked


def _samplers(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(t, str) for t in value):
        raise UserError(f'study {where}: samplers = {value}; expected texts, as ["mds"]')
    return tuple(value)


def _scored(
    where: str, specs: Sequence[ModalitySpec], target: Sequence[str], modalities: Sequence[str]
) -> tuple[str, ...]:
    """The images that are judged: those named, or else all that are not clean."""
    clean = [s.modality for s in specs if is_clean(s)]
    if fixed := [m for m in target if m in clean]:
        raise UserError(
            f"{where}: {', '.join(fixed)} is given clean, so there is nothing to judge; name "
            "another in scored"
        )
    judged = tuple(target or [m for m in modalities if m not in clean])
    if not judged:
        raise UserError(f"{where}: everything is given clean, so there is nothing to judge")
    return judged


@dataclass(frozen=True)
class Entry:
    """A row as the study file has it, before the images of a prior are known."""

    name: str
    known: str
    scored: str
    samplers: tuple[str, ...] = ()
    through: float = 0.0


def _entries(study: str, asked: dict[str, Any], modalities: Sequence[str]) -> Iterator[Entry]:
    """The rows that are written out, and those of each growing entry."""
    for row in asked.get("rows", []):
        yield from _written_out(study, row)
    for grow in asked.get("growing", []):
        if not {"target"} <= set(grow) <= {"target", "measured"}:
            raise UserError(f"study {study}: growing {grow}; expected target, and maybe measured")
        for target in modalities if grow["target"] == "*" else [grow["target"]]:
            yield from _growing(target, grow.get("measured"), modalities)


def _written_out(study: str, row: dict[str, Any]) -> Iterator[Entry]:
    """One row, or one for each value of its list."""
    said = {k: v for k, v in row.items() if k not in ("samplers", "through")}
    texts = {"scored": "*"} | {k: v for k, v in said.items() if isinstance(v, str)}
    lists = {k: v for k, v in row.items() if isinstance(v, list) and k != "samplers"}
    odd = set(said) - set(texts) - set(lists)
    if set(texts) != {"name", "known", "scored"} or len(lists) > 1 or odd:
        raise UserError(
            f"study {study}: row {row}; expected name, known, scored, maybe samplers and through, "
            "and at most one list"
        )
    own = _samplers(study, row["samplers"]) if "samplers" in row else ()
    for key, values in lists.items() or [("", [""])]:
        for value in values:
            through: Any = value if key == "through" else row.get("through", 0.0)
            if type(through) not in (int, float) or through < 0:
                raise UserError(f"study {study}: through = {through!r}; expected mm, from 0 on")
            filled = {k: text.replace(f"{{{key}}}", str(value)) for k, text in texts.items()}
            yield Entry(**filled, samplers=own, through=float(through))


def _growing(target: str, measured: str | None, modalities: Sequence[str]) -> Iterator[Entry]:
    """Rows with one more clean image each."""
    others = [m for m in modalities if m != target]
    for count in range(0 if measured else 1, len(others) + 1):
        given = "&".join(others[:count])
        known = [f"{m}={CLEAN}" for m in others[:count]]
        if measured:
            known.append(f"{target}={measured}")
            name = f"y({target})+{given}" if given else f"y({target})"
        else:
            name = f"{target} from {given}"
        yield Entry(name, ",".join(known), target)


def _specs(known: str, format_: StackFormat) -> list[ModalitySpec]:
    """``known`` with ``*`` and ``MR`` expanded, without missing modalities, in order."""
    if not known:
        return []
    named = {s.modality: s for s in modality_specs(known)}
    modalities = format_.names
    without_unit = [m.name for m in format_.modalities if not kind_for(m).physical]
    for wildcard, covered in (("MR", without_unit), ("*", modalities)):
        if rest := named.pop(wildcard, None):
            others = {m: ModalitySpec(m, rest.operator, rest.options) for m in covered}
            named = others | named
    place = {m: k for k, m in enumerate(modalities)}
    given = (s for s in named.values() if s.operator != MISSING)
    return sorted(given, key=lambda s: place.get(s.modality, len(place)))


def is_clean(spec: ModalitySpec) -> bool:
    """Whether a modality is given as a clean image, without noise."""
    return spec.operator == CLEAN and not spec.options
