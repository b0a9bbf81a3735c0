"""What kind of image a modality is: its unit, its scaling, and how its files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from any2all_operators import UserError

Values = Literal["stored", "hounsfield", "suv"]
Scaling = Literal["patient", "group", "fixed"]
DicomModality = Literal["MR", "CT", "PT"]
ARBITRARY = "arbitrary"
"""The unit of values that mean nothing by themselves, as those of most MR."""


@dataclass(frozen=True)
class ModalityKind:
    """A row of the table of modality kinds.

    Parameters
    ----------
    name
        Of the modality, as T1 or CT.
    unit
        Physical unit of the values, or "arbitrary".
    scaling
        How values become [0, 1]: by each patient's own brightness ("patient"; arbitrary units
        alone), by quantiles of the training group ("group"), or by ``range`` ("fixed").
    range
        The physical values that become 0 and 1, of a fixed scaling.
    values
        How values are read from a file: as they are stored, as CT in HU ("hounsfield": checked,
        and padding becomes air), or as PET in SUV ("suv": computed from activity, dose and
        weight).
    plausible
        The least and the largest value that the 99th percentile of an image may have; an image
        outside is refused. None checks nothing.
    dicom
        DICOM's Modality of such series: MR, CT or PT.
    threshold, margin, voxels
        Of its registration: the quality below which it is doubtful, the mm of the head's outside
        that do not count, and the voxels at which images are compared. A pair of modalities has
        the larger threshold, and the smaller margin and number, of the two.
    times
        {DICOM keyword: (least, largest)} in ms, of the times that such an image has.
    usual_echo
        The echo time in ms that is taken where there are several, and how near to it others
        count as alike. None takes the first echo.
    contrast_agent
        Whether it is made after a contrast agent was given.
    second_choice
        Regular expression on the words of a description; images that match come after others.
    match
        How its files are named: each entry is a rule as of ``modalities.toml``, {tag: regular
        expression}. For kinds that ``modalities.toml`` does not know.
    """

    name: str
    unit: str = ARBITRARY
    scaling: Scaling = "patient"
    range: tuple[float, float] | None = None
    values: Values = "stored"
    plausible: tuple[float, float] | None = None
    dicom: DicomModality = "MR"
    threshold: float = 0.04
    margin: float = 10.0
    voxels: int = 250_000
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    usual_echo: tuple[float, float] | None = None
    contrast_agent: bool = False
    second_choice: str = ""
    match: tuple[Mapping[str, str], ...] = ()

    def __post_init__(self) -> None:
        for what, kind in (("scaling", Scaling), ("values", Values), ("dicom", DicomModality)):
            if (given := getattr(self, what)) not in get_args(kind):
                raise UserError(f"{self.name}: {what} {given!r}; expected {_listed(kind)}")
        if self.physical == (self.scaling == "patient"):
            raise UserError(
                f"{self.name}: unit {self.unit!r} with scaling {self.scaling!r}; expected "
                f'"patient" for the unit {ARBITRARY!r} and "group" or [LOW, HIGH] for any other'
            )
        if (self.scaling == "fixed") != (self.range is not None):
            raise UserError(f"{self.name}: a fixed scaling needs its range, and no other has one")
        for what in ("range", "plausible", *self.times):
            span = self.times[what] if what in self.times else getattr(self, what)
            if span is not None and not span[0] < span[1]:
                raise UserError(f"{self.name}: {what} {list(span)}; expected the smaller one first")

    @property
    def physical(self) -> bool:
        """Whether values have a unit."""
        return self.unit != ARBITRARY

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON has it."""
        plain = {f.name: f.default for f in fields(self)} | {"times": {}}
        told = asdict(self)
        return {name: value for name, value in told.items() if value != plain[name]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ModalityKind:
        """The inverse of :meth:`to_json`. Raises UserError or TypeError for what is none."""
        read = dict(told)
        for name in ("range", "plausible", "usual_echo"):
            if read.get(name) is not None:
                read[name] = pair(read[name], f"{told.get('name')}: {name}")
        times = read.get("times", {})
        read["times"] = {k: pair(v, f"{told.get('name')}: {k}") for k, v in times.items()}
        read["match"] = tuple(dict(one) for one in read.get("match", ()))
        return cls(**read)


def pair(value: Any, what: str) -> tuple[float, float]:
    """Two numbers of a list. Raises UserError."""
    numbers = isinstance(value, list | tuple) and len(value) == 2
    if not numbers or not all(type(v) in (int, float) for v in value):
        raise UserError(f"{what} = {value!r}; expected two numbers, as [0, 3000]")
    return float(value[0]), float(value[1])


def _listed(kind: Any) -> str:
    return ", ".join(get_args(kind))
