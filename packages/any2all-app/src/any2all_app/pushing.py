"""Upload a prior and its model card to the Hugging Face Hub."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from any2all_core.named_priors import HUB, prior_folder
from any2all_core.prior import WEIGHTS, DiffusionPrior, weights_hash
from any2all_operators import UserError

from any2all_app.folders import finished_folder
from any2all_app.model_card import Publication, model_card

FILES = ("prior.json", "config.json", WEIGHTS)
"""The files that are uploaded. Checkpoints, logs and draws are not."""
REPOSITORY = r"[\w.-]+/[\w.-]+"
LICENCE = r"[a-z0-9][a-z0-9.-]*"


def push(
    prior: str | Path,
    publication: Publication,
    *,
    private: bool = False,
    dry_run: Path | None = None,
) -> str:
    """Upload a prior and its model card to the Hugging Face Hub.

    Parameters
    ----------
    prior
        A folder written by ``train``, or an installed prior's name.
    publication
        The repository, the licence of the weights, and a description of the training data.
    private
        Whether a new repository is private.
    dry_run
        A new folder into which the files are written instead of uploading them.

    Returns
    -------
    str
        The address of the repository, or ``dry_run``.

    Raises
    ------
    UserError
        If the prior can't be read, a name or licence is not valid, or the Hub refuses the upload.
    """
    if not re.fullmatch(REPOSITORY, publication.repository):
        raise UserError(f"{publication.repository}: expected OWNER/NAME on the Hugging Face Hub")
    if not re.fullmatch(LICENCE, publication.licence):
        raise UserError(
            f"--licence {publication.licence}: expected the Hub's spelling, such as apache-2.0, "
            "cc-by-nc-sa-4.0 or other"
        )
    if not publication.data.strip():
        raise UserError("--data: describe the training data and their licence")
    folder = prior_folder(prior)
    if dry_run is not None:
        with finished_folder(dry_run) as made:
            _gather(folder, publication, made.path)
        return str(dry_run)
    with tempfile.TemporaryDirectory() as made_of:
        _gather(folder, publication, Path(made_of))
        return _uploaded(Path(made_of), publication.repository, private)


def _gather(prior: Path, publication: Publication, output: Path) -> None:
    settings = DiffusionPrior.load(prior, "float32", "cpu").settings  # checks its files
    for name in FILES:
        shutil.copyfile(prior / name, output / name)
    card = model_card(settings, weights_hash(prior), publication)
    (output / "README.md").write_text(card)


def _uploaded(folder: Path, repository: str, private: bool) -> str:
    from huggingface_hub import HfApi

    try:
        hub = HfApi(library_name="any2all")
        url = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Add a prior of Any2all"
        )
    except Exception as error:  # the errors of the Hub and of the network have no common base
        reason = " ".join(str(error).split())
        raise UserError(
            f"{HUB}{repository}: not uploaded ({type(error).__name__}: {reason}); check the name, "
            "the network, and hf auth login"
        ) from None
    return str(url)
