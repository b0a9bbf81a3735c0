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
        str, typer.Option(help="Of the weights, as the Hub writes it: apache-2.0, other ...")
    ],
    data: Annotated[
        str, typer.Option(help="What it was trained on and under what licence, in a few sentences")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private if it is new")
    ] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(help="Upload nothing; write what would be uploaded into this new folder"),
    ] = None,
) -> None:
    """Upload a prior, with a model card, to the Hugging Face Hub.

    Its files and README.md are uploaded, and neither checkpoints nor draws. Log in with hf auth
    login first.
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
