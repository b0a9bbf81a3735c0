"""``any2all plugins``."""

from __future__ import annotations

import inspect
import json
import textwrap
from typing import Any

from any2all_core.check import check_sampler
from any2all_core.check_method import check_method
from any2all_core.named_methods import make_method
from any2all_core.named_priors import bundled_prior
from any2all_core.options import option_fields, option_meanings, type_name
from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import PriorSettings, read_settings
from any2all_core.reconstruct import make_sampler
from any2all_core.registry import GROUPS, Plugin, list_plugins, make_plugin
from any2all_operators import UserError, check_operator, valid_names
from rich.console import Console
from rich.table import Table

CHECK_SIZE = (64, 64)

PRESET = ("any2all.samplers", "any2all.methods")
"""Groups of plugins that may have presets."""
TINY = "tiny"
"""Preset with which a method is checked, if it has this preset."""
LEVELS = {
    "separate": "a noise level for each modality",
    "shared": "one noise level for all modalities",
}
"""Meaning of a prior's noise levels, on which some samplers depend."""


def list_or_check(name: str | None, as_json: bool, check: bool) -> bool:
    """Print the installed plugins. They are imported only if one is named or they are checked.

    Returns whether every check passed.
    """
    found = [plugin for group in GROUPS for plugin in list_plugins(group)]
    if name is not None:
        chosen = [p for p in found if name in (p.name, p.qualified)]
        if not chosen:
            valid = valid_names(name, (p.name for p in found), "installed:", "any2all plugins")
            raise UserError(f"unknown plugin {name!r}{valid}")
        found = chosen
    rows = [_row(p) for p in found]
    if check:
        for row, plugin in zip(rows, found, strict=True):
            row["check"] = _check(plugin)
    elif name is not None:
        for row, plugin in zip(rows, found, strict=True):
            row |= _describe(plugin)
    if as_json:
        print(json.dumps(rows, indent=2, default=str))
    elif name is not None and not check:
        _print_described(rows)
    else:
        _print_table(rows)
    return all(row.get("check", "ok") == "ok" for row in rows)


def _row(plugin: Plugin) -> dict[str, Any]:
    return {
        "group": plugin.group,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "object": plugin.entry_point.value,
    }


def _describe(plugin: Plugin) -> dict[str, Any]:
    loaded = plugin.load()
    if plugin.group == "any2all.priors":
        settings = read_settings(bundled_prior(plugin.qualified).folder)
        return {
            "facts": _facts(settings),
            "about": f"{', '.join(settings.modalities)} at "
            f"{settings.image_size[0]} x {settings.image_size[1]}, {LEVELS[settings.levels]}",
            "options": {},
        }
    doc = inspect.getdoc(loaded) or "(no docstring)"
    about = doc.split("\n\n")[0].replace("\n", " ")
    if plugin.group == "any2all.commands":
        return {"about": about, "options": {}}
    meanings = option_meanings(loaded)
    options = {
        option: {
            "type": type_name(kind),
            "default": default,
            **({"meaning": meanings[option]} if option in meanings else {}),
        }
        for option, (kind, default) in option_fields(loaded).items()
    }
    named = getattr(loaded, "presets", {}) if plugin.group in PRESET else {}
    found = {"about": about, "options": options, "presets": named}
    if plugin.group == "any2all.methods":
        found["abilities"] = sorted(loaded.abilities)
    return found


def _facts(settings: PriorSettings) -> list[str]:
    """Return sentences on a prior's voxels, training and quality."""
    facts, spacing = [], settings.format.known_grid.spacing
    if spacing is not None:
        facts.append(f"its voxels are {' x '.join(f'{mm:g}' for mm in spacing)} mm")
    if settings.virtual:
        facts.append("it was trained on virtual people, who do not exist")
    if settings.nearness:
        facts.append("PSNR of held-out slices, at the best scale, of one draw by mds:")
    for given, of in settings.nearness.items():
        pairs = ", ".join(f"{m} {draw:.1f} dB" for m, (draw, _) in of.items())
        facts.append(f"  from {given} alone: {pairs}")
    return facts


def _check(plugin: Plugin) -> str:
    """Return "ok", or one line that says what is wrong."""
    try:
        if plugin.group == "any2all.operators":
            made = make_plugin(plugin.group, plugin.qualified, {})
            operator = made.build(*CHECK_SIZE) if hasattr(made, "build") else made
            check_operator(operator, CHECK_SIZE)
        elif plugin.group == "any2all.samplers":
            check_sampler(make_sampler(plugin.qualified))
            for preset in getattr(plugin.load(), "presets", {}):
                make_sampler(plugin.qualified, preset=preset)
        elif plugin.group == "any2all.methods":
            for preset in plugin.load().presets:
                make_method(plugin.qualified, {}, preset)
            tiny = TINY if TINY in plugin.load().presets else None
            check_method(plugin.qualified, make_method(plugin.qualified, {}, tiny))
        elif plugin.group == "any2all.networks":
            network = plugin.load()
            if not (hasattr(network, "build") and hasattr(network, "read")):
                return "lacks build(config) or read(source, channels)"
        elif plugin.group == "any2all.commands":
            if not callable(plugin.load()):
                return "is not callable"
        else:
            DiffusionPrior.load(bundled_prior(plugin.qualified).folder)
    except UserError as error:
        return str(error)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        return f"{type(error).__name__}: {reason}"
    return "ok"


def _print_described(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"{row['name']}: {row['about']}")
        print(f"  {row['group']}, from {row['distribution']} {row['version']}")
        for fact in row.get("facts", []):
            print(f"  {fact}")
        if "abilities" in row:
            print(f"  for {' and '.join(row['abilities'])}")
        for option, entry in row["options"].items():
            print(f"  {option}={entry['default']}  ({entry['type']})")
            if "meaning" in entry:
                print(textwrap.indent(textwrap.fill(entry["meaning"], 72), "      "))
        for preset, values in row.get("presets", {}).items():
            listed = ", ".join(f"{option}={value}" for option, value in values.items())
            print(f"  preset={preset}  ({listed})")


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = (
        "group",
        "name",
        "distribution",
        "version",
        *(["check"] if "check" in rows[0] else []),
    )
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console().print(table)
