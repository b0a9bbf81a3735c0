"""What is asked: rows of inputs, the images they are judged by, and the samplers.

A study is a TOML file::

    title = "FLAIR from its k-space, with more and more clean images"
    samplers = ["mds", "mps:steps=100"]     # NAME[:OPTION=VALUE...]
    draws = 1                               # the mean of so many is judged

    [[rows]]
    name = "T1+y(FLAIR), R = {R}"
    known = "T1=clean,FLAIR=kspace:acceleration={R}"   # as --modalities; *: all others; MR: all
                                            # others without a physical unit
    scored = "FLAIR"                        # comma-separated; *: all that are not clean
    R = [2, 4, 8]                           # one row for each

    [[growing]]                             # rows in which one more clean image is known each
    target = "FLAIR"                        # *: each modality in turn
    measured = "kspace"                     # how the target itself is known; left out: it is not

Written-out rows come first. Those that name a modality which the prior does not know are left out,
and said.
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

SHIPPED = ("reconstruction", "synthesis", "mixed", "generation")
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
    """One input: what is known and how, in the prior's order, and which images are judged."""

    name: str
    known: tuple[ModalitySpec, ...]
    scored: tuple[str, ...]

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
    """``left_out``: {row: the modalities that the prior lacks for it}.

    ``methods``: those of the samplers that are methods trained for their task.
    """

    name: str
    title: str
    samplers: tuple[str, ...]
    draws: int
    rows: tuple[Row, ...]
    left_out: dict[str, str]
    methods: tuple[str, ...] = ()


def read_study(name: str, format_: StackFormat) -> Study:
    """A shipped study, or a TOML file, for a prior of these images. Raises UserError."""
    modalities = format_.names
    if name in SHIPPED:
        text = files("any2all_eval").joinpath(f"studies/{name}.toml").read_text()
    else:
        path = Path(name)
        if not path.is_file():
            raise UserError(
                f"no study {name}: expected {', '.join(SHIPPED)}, or a TOML file like theirs"
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
    rows: dict[str, Row] = {}
    left_out: dict[str, str] = {}
    for entry in _entries(name, asked, modalities):
        known, scored = entry["known"], entry["scored"]
        specs = _specs(known, format_)
        target = [s.strip() for s in scored.split(",")] if scored != "*" else []
        unknown = [m for m in (*(s.modality for s in specs), *target) if m not in modalities]
        if unknown:
            left_out[entry["name"]] = ", ".join(dict.fromkeys(unknown))
            continue
        if entry["name"] in rows:
            raise UserError(f"study {name}: two rows are called {entry['name']!r}; rename one")
        clean = [s.modality for s in specs if is_clean(s)]
        judged = target or [m for m in modalities if m not in clean]
        if fixed := [m for m in judged if m in clean]:
            raise UserError(
                f"study {name}, row {entry['name']!r}: {', '.join(fixed)} is given clean, so there "
                "is nothing to judge; name another in scored"
            )
        if not judged:
            raise UserError(
                f"study {name}, row {entry['name']!r}: everything is given clean, so there is "
                "nothing to judge"
            )
        rows[entry["name"]] = Row(entry["name"], tuple(specs), tuple(judged))
    if not rows:
        missing = ", ".join(left_out.values()) or "no row in it"
        raise UserError(f"study {name}: nothing of it fits this prior ({missing})")
    draws = asked.get("draws", 1)
    if draws < 1:
        raise UserError(f"study {name}: draws = {draws}, expected at least 1")
    samplers = tuple(asked.get("samplers", ["mds"]))
    if not samplers or not all(isinstance(text, str) for text in samplers):
        raise UserError(f'study {name}: samplers = {list(samplers)}; expected texts, as ["mds"]')
    title = asked.get("title", Path(name).stem)
    return Study(Path(name).stem, title, samplers, draws, tuple(rows.values()), left_out)


def _entries(
    study: str, asked: dict[str, Any], modalities: Sequence[str]
) -> Iterator[dict[str, str]]:
    """The rows written out, as {name, known, scored}."""
    for row in asked.get("rows", []):
        texts = {"scored": "*"} | {k: v for k, v in row.items() if isinstance(v, str)}
        lists = {k: v for k, v in row.items() if isinstance(v, list)}
        odd = set(row) - set(texts) - set(lists)
        if set(texts) != {"name", "known", "scored"} or len(lists) > 1 or odd:
            raise UserError(
                f"study {study}: row {row}; expected name, known, scored, and at most one list"
            )
        for key, values in lists.items() or [("", [""])]:
            for value in values:
                yield {k: text.replace(f"{{{key}}}", str(value)) for k, text in texts.items()}
    for grow in asked.get("growing", []):
        if not {"target"} <= set(grow) <= {"target", "measured"}:
            raise UserError(f"study {study}: growing {grow}; expected target, and maybe measured")
        measured = grow.get("measured")
        for target in modalities if grow["target"] == "*" else [grow["target"]]:
            others = [m for m in modalities if m != target]
            for count in range(0 if measured else 1, len(others) + 1):
                given = "&".join(others[:count])
                known = [f"{m}={CLEAN}" for m in others[:count]]
                if measured:
                    known.append(f"{target}={measured}")
                    name = f"y({target})+{given}" if given else f"y({target})"
                else:
                    name = f"{target} from {given}"
                yield {"name": name, "known": ",".join(known), "scored": target}


def _specs(known: str, format_: StackFormat) -> list[ModalitySpec]:
    """Of ``known``, ``*`` and ``MR`` written out, nothing said of what is missing; in order."""
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
    """An image as it is, without noise."""
    return spec.operator == CLEAN and not spec.options
