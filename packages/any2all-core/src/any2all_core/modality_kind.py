"""Kinds of modalities: unit, scaling, and how the files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from any2all_operators import UserError

Values = Literal["stored", "hounsfield", "suv"]
Scaling = Literal["patient", "group", "fixed"]
DicomModality = Literal["MR", "CT", "PT"]
ARBITRARY = "arbitrary"
"""The unit of values without a physical meaning, such as those of most MR images."""


@dataclass(frozen=True)
class ModalityKind:
    """A row of the table of modality kinds.

    Parameters
    ----------
    name
        Name of the modality, such as T1 or CT.
    unit
        Physical unit of the values, or "arbitrary".
    scaling
        How values are mapped to [0, 1]: "patient" uses each patient's own brightness and needs an
        arbitrary unit, "group" uses quantiles of the training group, and "fixed" uses ``range``.
    range
        The physical values that are mapped to 0 and 1 by a fixed scaling.
    values
        How values are read from a file. "stored" reads them unchanged. "hounsfield" reads CT in HU,
        checks the values and sets padding to air. "suv" computes PET in SUV from activity, dose and
        weight.
    plausible
        Smallest and largest plausible 99th percentile of an image. An image outside is refused.
        None skips the check.
    dicom
        DICOM Modality of the series: MR, CT or PT.
    threshold
        Registration quality below which a registration is doubtful. A pair of modalities uses the
        larger threshold of the two.
    margin
        Width in mm of the outer part of the head that registration ignores. A pair of modalities
        uses the smaller margin of the two.
    voxels
        Number of voxels at which registration compares images. A pair of modalities uses the
        smaller number of the two.
    times
        {DICOM keyword: (smallest, largest)}, plausible sequence times in ms.
    usual_echo
        The preferred echo time if there are several echoes, and the distance within which other
        echo times count as the same, both in ms. None selects the first echo.
    contrast_agent
        Whether the image is acquired after a contrast agent was given.
    second_choice
        Regular expression for the words of a description. Images that match are selected only if
        there are no others.
    match
        Rules for the names of the files, for kinds that ``modalities.toml`` does not have. Each is
        a rule as in that file, {tag: regular expression}.

    Raises
    ------
    UserError
        If the fields contradict each other.
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
        """Whether the values have a physical unit."""
        return self.unit != ARBITRARY

    def to_json(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as a JSON object."""
        plain = {f.name: f.default for f in fields(self)} | {"times": {}}
        told = asdict(self)
        return {name: value for name, value in told.items() if value != plain[name]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ModalityKind:
        """The inverse of :meth:`to_json`.

        Parameters
        ----------
        told
            The JSON object.

        Raises
        ------
        UserError, TypeError
            If the object is malformed.
        """
        read = dict(told)
        for name in ("range", "plausible", "usual_echo"):
            if read.get(name) is not None:
                read[name] = pair(read[name], f"{told.get('name')}: {name}")
        times = read.get("times", {})
        read["times"] = {k: pair(v, f"{told.get('name')}: {k}") for k, v in times.items()}
        read["match"] = tuple(dict(one) for one in read.get("match", ()))
        return cls(**read)


def pair(value: Any, what: str) -> tuple[float, float]:
    """Read a list of two numbers. Raises UserError if it is not one."""
    numbers = isinstance(value, list | tuple) and len(value) == 2
    if not numbers or not all(type(v) in (int, float) for v in value):
        raise UserError(f"{what} = {value!r}; expected two numbers, as [0, 3000]")
    return float(value[0]), float(value[1])


def _listed(kind: Any) -> str:
    return ", ".join(get_args(kind))
