"""``any2all plugins``."""

from __future__ import annotations

import json

from any2all_core.registry import GROUPS, list_plugins
from rich.console import Console
from rich.table import Table


def run(as_json: bool) -> None:
    """Print what is installed, importing none of it."""
    found = [plugin for group in GROUPS for plugin in list_plugins(group)]
    if as_json:
        rows = [
            {
                "group": p.group,
                "name": p.name,
                "distribution": p.distribution,
                "version": p.version,
                "object": p.entry_point.value,
            }
            for p in found
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table("group", "name", "package", "version")
    for p in found:
        table.add_row(p.group, p.name, p.distribution, p.version)
    Console().print(table)
