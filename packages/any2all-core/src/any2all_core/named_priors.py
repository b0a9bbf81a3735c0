"""Priors by name: a folder, an installed package, or the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from any2all_operators import UserError

from any2all_core.prior import BundledPrior, DiffusionPrior
from any2all_core.registry import find_plugin

HUB = "hf:"
"""Prefix of the names of priors on the Hugging Face Hub."""


def load_prior(name: str | Path, precision: str = "auto", device: str = "auto") -> DiffusionPrior:
    """Load a prior.

    Parameters
    ----------
    name
        A folder written by training, ``hf:OWNER/NAME[@REVISION]`` on the Hugging Face Hub, or the
        name of an installed prior.
    precision
        "float32", "bfloat16", or "auto", which is bfloat16 if the hardware supports it.
    device
        A torch device such as "cuda:0", or "auto", which is a GPU if there is one.

    Returns
    -------
    DiffusionPrior
        The prior in evaluation mode, on the device.

    Raises
    ------
    UserError
        If there is no such prior, or its files are damaged.
    """
    return DiffusionPrior.load(prior_folder(name), precision, device)


def prior_folder(name: str | Path) -> Path:
    """The folder of a prior's files: ``name`` itself, or the folder of the installed prior.

    ``hf:OWNER/NAME[@REVISION]`` is downloaded once from the Hugging Face Hub into its cache.
    """
    if Path(name).is_dir():
        return Path(name)
    if str(name).startswith(HUB):
        return _from_hub(str(name).removeprefix(HUB))
    if isinstance(name, Path) or "/" in name:
        raise UserError(
            f"{name}: no such folder; expected one written by 'train', or a plugin's name"
        )
    return bundled_prior(name).folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        found = snapshot_download(
            repository, revision=revision or None, allow_patterns=["*.json", "*.safetensors"]
        )
    except Exception as error:  # the Hub and the network raise many kinds
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{HUB}{name}: not fetched ({type(error).__name__}: {reason}); check the name, the "
            "network, and for a private one huggingface-cli login"
        ) from None
    return Path(found)


def bundled_prior(name: str) -> BundledPrior:
    """The installed prior with this name. Raises UserError if there is none."""
    plugin = find_plugin("any2all.priors", name)
    bundled = plugin.load()
    if not isinstance(bundled, BundledPrior):
        raise UserError(
            f"prior {name!r} of {plugin.distribution} is a {type(bundled).__name__}, not a "
            "BundledPrior; tell its author"
        )
    return bundled
