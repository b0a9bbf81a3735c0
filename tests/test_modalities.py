"""Which file is which modality: BIDS' names, scanners' series, data sets' files, and the best of several."""

from __future__ import annotations

from pathlib import Path

import pytest
from any2all_data.rules import modality_of, read_rules
from any2all_data.sources import file_source

RULES = read_rules()
EXAMPLES = Path(__file__).with_name("bids_examples.tsv")


def test_every_name_of_bids_examples_is_what_the_grammar_says() -> None:
    """Names of the repository bids-standard/bids-examples, and beside them, by the specification,
    the modality; "derived" where the file is a derivative; nothing where it is none."""
    lines = EXAMPLES.read_text().splitlines()
    wrong = {}
    for line in lines:
        name, right = line.split("\t")
        root, *inner = name.split("/")
        subject = next(part for part in inner if part.startswith(("sub-", "tpl-")))
        source = file_source(Path(name), Path(root), subject, "")
        found = modality_of(source.tags, RULES)
        said = f"{found} derived" if found and source.tags.get("derived") else found
        if said != right:
            wrong[name] = said
    assert len(lines) > 100
    assert wrong == {}


def test_series_as_five_vendors_name_them() -> None:
    """MR series by their description alone; what a radiographer would say each is."""
    lines = EXAMPLES.with_name("series_names.tsv").read_text().splitlines()
    wrong = {}
    for line in lines:
        _, name, right = line.split("\t")
        found = modality_of({"Modality": "MR", "text": name}, RULES)
        if found != right:
            wrong[name] = found
    assert len(lines) > 100
    assert wrong == {}
