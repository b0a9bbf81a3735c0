"""The model card of a prior: what it is, what it was trained on, what was measured, its limits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import any2all_mri.intensity as rules
from any2all_core.prior_settings import PriorSettings

FIGURES = {
    "validation_loss": "loss",
    "loss_joint": "loss, one noise level for all images",
    "loss_given": "loss, one image given",
    "psnr_missing": "PSNR of what is missing, one call, given one other image",
}
TAGS = ("any2all", "diffusion", "medical-imaging", "image-reconstruction", "image-synthesis")


@dataclass(frozen=True)
class Publication:
    """What a prior does not know of itself.

    ``repository``: OWNER/NAME; ``licence``: of the weights, as the Hub writes it (apache-2.0,
    cc-by-nc-sa-4.0, other ...); ``data``: what they were trained on, and under what licence.
    """

    repository: str
    licence: str
    data: str


def model_card(settings: PriorSettings, weights: str, said: Publication) -> str:
    """README.md of a prior on the Hugging Face Hub; ``weights``: the SHA-256 of its weights."""
    names = ", ".join(settings.modalities)
    size = " x ".join(map(str, settings.image_size))
    parts = [
        _front_matter(settings, said),
        f"# {said.repository.partition('/')[2]}",
        f"A diffusion prior of stacks of axial slices: {names}, {size} pixels. With "
        "[Any2all](https://arxiv.org/abs/2602.08249) it completes whatever images a patient lacks, "
        "from any mix of images and raw measurements.\n\n"
        "**Not for clinical use.** It invents what it was not given.",
        _use(settings, said),
        f"## Data\n\n{said.data}\n\n" + "\n".join(f"- {text}" for text in _data(settings)),
        _normalisation(settings),
        "## What was measured\n\n" + "\n\n".join(_measured(settings)),
        _limits(settings),
        "## Training\n\n```json\n"
        + json.dumps(settings.training.get("recipe", {}), indent=2)
        + "\n```",
        f"SHA-256 of the weights: `{weights}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(settings: PriorSettings, said: Publication) -> str:
    tags = [*TAGS, *(name.lower() for name in settings.modalities)]
    lines = [f"license: {said.licence}", "library_name: any2all", "pipeline_tag: image-to-image"]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _use(settings: PriorSettings, said: Publication) -> str:
    given = settings.modalities[0]
    return (
        "## Intended use\n\nResearch on reconstruction and synthesis of images of people like "
        "those it was trained on.\n\n"
        "    pip install any2all\n"
        f"    any2all sample --prior hf:{said.repository} --input PATIENT --modalities "
        f"{given}=clean\n\n"
        "```python\nimport any2all\n\n"
        f'prior = any2all.load_prior("hf:{said.repository}")\n```'
    )


def _data(settings: PriorSettings) -> Iterator[str]:
    told = settings.training
    patients, grid = told.get("patients"), settings.format.grid
    if patients:
        yield (
            f"Split by patient: {patients['train']} to train on, {patients['val']} to validate on. "
            "No slice of one is in the other."
        )
    else:
        yield "How many patients it was trained on was not recorded."
    if grid:
        where = "each patient's own"
        if grid.spacing:
            where = " x ".join(f"{mm:g}" for mm in grid.spacing) + " mm"
        yield f"Voxels: {where}; images lie on the grid of {grid.reference}."
        bias = "removed by N4" if grid.bias_corrected else "left as it was"
        yield f"The bias field of MR was {bias}."
    if told.get("virtual"):
        yield "All people are simulated. No such people exist."
    if told.get("incomplete"):
        yield f"{told['incomplete']} of the patients to train on lack some of the images."
    if told.get("drawn"):
        yield f"Of {told['drawn']['patients']} patients some images were drawn by another prior."
    if told.get("start_from"):
        yield "Training began with the weights of another prior; `prior.json` says of which."
    if told.get("imported"):
        yield f"The weights are imported ({told['imported']}); their normalisation was assumed."


def _normalisation(settings: PriorSettings) -> str:
    """Code that makes [0, 1] of physical values, of the library's own functions."""
    images = settings.format.modalities
    ranges = {m.name: m.range and (m.range.low, m.range.high) for m in images}
    code = [
        "import numpy as np",
        "",
        f"FOREGROUND, PERCENTILE = {rules.FOREGROUND}, {rules.PERCENTILE}",
        f"RANGES = {ranges!r}  # None: found for each volume",
        "",
        "",
        *inspect.getsource(rules.mr_scale).replace(": Array", "").splitlines(),
        "",
        "",
        "def normalise(modality, volume):",
        '    """A volume of one patient in physical units to [0, 1]."""',
        "    low, high = RANGES[modality] or (0.0, mr_scale(volume))",
        "    return np.clip((volume - low) / (high - low), 0, 1)",
    ]
    said = "; ".join(f"{m.name} in {m.unit}" for m in images)
    text = "\n".join(code)
    return f"## Normalisation\n\nImages enter in [0, 1]: {said}.\n\n```python\n{text}\n```"


def _measured(settings: PriorSettings) -> Iterator[str]:
    told = settings.training
    found = {text: told[name] for name, text in FIGURES.items() if name in told}
    found |= {
        f"PSNR of x̂_0 at t = {name.removeprefix('psnr_t')}": value
        for name, value in told.items()
        if name.startswith("psnr_t")
    }
    if not found:
        yield "Nothing: it was never validated."
        return
    rows = [f"| {text} | {value:.4g} |" for text, value in found.items()]
    yield "On slices of patients who were held out to choose the weights, by `any2all train`:"
    yield "\n".join(["| figure | value |", "|---|---|", *rows])
    yield (
        "PSNR is in dB on images in [0, 1]. These are means without intervals; `any2all evaluate` "
        "measures on patients of the test group, with intervals."
    )
    if settings.nearness:
        yield "A missing image, given one other: PSNR of one draw, and of a copy of the given one."
        yield _table(settings.nearness)
    yield (
        f"Error of x̂_0 where hardly any noise is left: {settings.error_floor:g} of full scale "
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
        "What is not measured is drawn from what was learnt: a lesion may be missing, or made up.",
        "It knows the scanners, sequences, ages and diseases of its training data, and no others.",
        "It sees single slices; `--through` makes what is drawn alike through a volume.",
    ]
    if worse:
        said.append(f"A copy of the given image came nearer than a draw: {', '.join(worse)}.")
    return "## Limits\n\n" + "\n".join(f"- {text}" for text in said)
