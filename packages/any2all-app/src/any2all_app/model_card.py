"""Write the model card of a prior: its use, training data, measurements and limits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import any2all_mri.intensity as rules
from any2all_core.modality_kind import ARBITRARY
from any2all_core.prior_settings import PriorSettings

FIGURES = {
    "validation_loss": "loss",
    "loss_joint": "loss, one noise level for all images",
    "loss_given": "loss, one image given",
    "psnr_missing": "PSNR of a missing image, one call, given one other image",
}
TAGS = ("any2all", "diffusion", "medical-imaging", "image-reconstruction", "image-synthesis")


@dataclass(frozen=True)
class Publication:
    """Facts for the model card that the prior does not store.

    Parameters
    ----------
    repository
        OWNER/NAME on the Hugging Face Hub.
    licence
        Licence of the weights in the Hub's spelling: apache-2.0, cc-by-nc-sa-4.0, other ...
    data
        The training data and their licence, in words.
    """

    repository: str
    licence: str
    data: str


def model_card(settings: PriorSettings, weights: str, publication: Publication) -> str:
    """Return the README.md of a prior on the Hub. ``weights`` is the SHA-256 of its weights."""
    names = ", ".join(settings.modalities)
    size = " x ".join(map(str, settings.image_size))
    parts = [
        _front_matter(settings, publication),
        f"# {publication.repository.partition('/')[2]}",
        f"A diffusion prior of stacks of axial slices: {names}, {size} pixels. With "
        "[Any2all](https://arxiv.org/abs/2602.08249) it completes the images that a patient lacks, "
        "from any mix of images and raw measurements.\n\n"
        "**Not for clinical use.** It invents images that were not measured.",
        _use(settings, publication),
        f"## Data\n\n{publication.data}\n\n" + "\n".join(f"- {text}" for text in _data(settings)),
        _normalisation(settings),
        "## Measured quality\n\n" + "\n\n".join(_measured(settings)),
        _limits(settings),
        "## Training\n\n```json\n"
        + json.dumps(settings.training.get("recipe", {}), indent=2)
        + "\n```",
        f"SHA-256 of the weights: `{weights}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(settings: PriorSettings, publication: Publication) -> str:
    tags = [*TAGS, *(name.lower() for name in settings.modalities)]
    lines = [f"license: {publication.licence}", "library_name: any2all"]
    lines.append("pipeline_tag: image-to-image")
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _use(settings: PriorSettings, publication: Publication) -> str:
    given = settings.modalities[0]
    return (
        "## Intended use\n\nThe prior is for research on reconstruction and synthesis of images of "
        "people like those in its training data.\n\n"
        "    pip install any2all\n"
        f"    any2all sample --prior hf:{publication.repository} --input PATIENT --modalities "
        f"{given}=clean\n\n"
        "```python\nimport any2all\n\n"
        f'prior = any2all.load_prior("hf:{publication.repository}")\n```'
    )


def _data(settings: PriorSettings) -> Iterator[str]:
    training = settings.training
    patients, grid = training.get("patients"), settings.format.grid
    if patients:
        yield (
            f"{patients['train']} patients are for training and {patients['val']} others for "
            "validation. No patient is in both groups."
        )
    else:
        yield "The number of patients was not recorded."
    if grid:
        size = "Voxels have each patient's own size"
        if grid.spacing:
            size = f"Voxels have {' x '.join(f'{mm:g}' for mm in grid.spacing)} mm"
        yield f"{size}. Images lie on the grid of {grid.reference}."
        bias = "was removed by N4" if grid.bias_corrected else "was not removed"
        yield f"The bias field of MR {bias}."
    if training.get("virtual"):
        yield "All people are simulated. None of them exists."
    if training.get("incomplete"):
        yield f"{training['incomplete']} of the training patients lack some of the images."
    if training.get("drawn"):
        yield f"{training['drawn']['patients']} patients have images that another prior has drawn."
    if training.get("start_from"):
        yield "Training started from the weights of another prior, which `prior.json` names."
    if training.get("imported"):
        yield f"The weights are imported ({training['imported']}); their normalisation was assumed."


def _normalisation(settings: PriorSettings) -> str:
    """Return the code that scales physical values to [0, 1], from the library's own functions."""
    images = settings.format.modalities
    ranges = {m.name: m.range and (m.range.low, m.range.high) for m in images}
    code = [
        "import numpy as np",
        "",
        f"FOREGROUND, PERCENTILE = {rules.FOREGROUND}, {rules.PERCENTILE}",
        f"RANGES = {ranges!r}  # None: measured in each volume",
        "",
        "",
        *inspect.getsource(rules.mr_scale).replace(": Array", "").splitlines(),
        "",
        "",
        "def normalise(modality, volume):",
        '    """Scale a volume of one patient from physical units to [0, 1]."""',
        "    low, high = RANGES[modality] or (0.0, mr_scale(volume))",
        "    return np.clip((volume - low) / (high - low), 0, 1)",
    ]
    units = "; ".join(f"{m.name} in {_units(m.unit)}" for m in images)
    text = "\n".join(code)
    return (
        f"## Normalisation\n\nThe prior needs images in [0, 1]. This code scales them from their "
        f"units ({units}):\n\n```python\n{text}\n```"
    )


def _units(unit: str) -> str:
    return "arbitrary units" if unit == ARBITRARY else unit


def _measured(settings: PriorSettings) -> Iterator[str]:
    training = settings.training
    found = {text: training[name] for name, text in FIGURES.items() if name in training}
    found |= {
        f"PSNR of x̂_0 at t = {name.removeprefix('psnr_t')}": value
        for name, value in training.items()
        if name.startswith("psnr_t")
    }
    if not found:
        yield "The prior was never validated."
        return
    rows = [f"| {text} | {value:.4g} |" for text, value in found.items()]
    yield "`any2all train` measured these on the patients for validation, which chose the weights:"
    yield "\n".join(["| measure | value |", "|---|---|", *rows])
    yield (
        "PSNR is in dB for images in [0, 1]. These are means without confidence intervals. "
        "`any2all evaluate` measures patients of the test group, with intervals."
    )
    if settings.nearness:
        yield (
            "One image is given and another is missing. The table has the PSNR of one draw of the "
            "missing image, and of a copy of the given one:"
        )
        yield _table(settings.nearness)
    yield (
        f"The error of x̂_0 at the lowest noise level is {settings.error_floor:g} of full scale "
        "(standard deviation)."
    )


def _table(missing: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    rows = [
        f"| {given} | {name} | {draw:.1f} | {copy:.1f} |"
        for given, others in missing.items()
        for name, (draw, copy) in others.items()
    ]
    return "\n".join(["| given | missing | draw | copy |", "|---|---|---|---|", *rows])


def _limits(settings: PriorSettings) -> str:
    worse = [
        f"{name} from {given}"
        for given, others in settings.nearness.items()
        for name, (draw, copy) in others.items()
        if copy >= draw
    ]
    said = [
        "Images that were not measured are invented: a lesion may be missing, or made up.",
        "It knows the scanners, sequences, ages and diseases of its training data, and no others.",
        "It sees single slices. `--through` makes neighbouring slices similar.",
    ]
    if worse:
        said.append(f"A copy of the given image is nearer than a draw for {', '.join(worse)}.")
    return "## Limits\n\n" + "\n".join(f"- {text}" for text in said)
