"""``any2all push``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    prior: Annotated[str, typer.Argument(help="Folder written by train, or an installed prior")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub")
    ],
    licence: Annotated[
        str,
        typer.Option(help="Licence of the weights as the Hub writes it, for example apache-2.0"),
    ],
    data: Annotated[
        str,
        typer.Option(help="Training data and their licence, in a few sentences for the model card"),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private if it is new")
    ] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(help="Write the files into this new folder instead of uploading them"),
    ] = None,
) -> None:
    """Upload a prior, with a model card, to the Hugging Face Hub.

    The prior's files and README.md are uploaded. Checkpoints and draws are not.
    Log in with hf auth login first.
    """
    from any2all_app.model_card import Publication
    from any2all_app.pushing import push as push_to
    from any2all_core.named_priors import HUB
    from rich.console import Console

    where = push_to(prior, Publication(repository, licence, data), private=private, dry_run=dry_run)
    said = f"written to {where}, and nothing uploaded" if dry_run else f"uploaded to {where}"
    console = Console(stderr=True)
    console.print(f"prior and model card {said}", soft_wrap=True)
    if dry_run is None:
        console.print(f"take it with --prior {HUB}{repository}", soft_wrap=True)
