"""Plugins such as operators, samplers and priors: found by entry points, imported when used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import (
    Distribution,
    EntryPoint,
    PackageNotFoundError,
    entry_points,
    version,
)
from typing import Any

from any2all_operators import UserError, valid_names

from any2all_core.options import parse_options

GROUPS = (
    *("any2all.operators", "any2all.samplers", "any2all.priors", "any2all.networks"),
    *("any2all.methods", "any2all.commands"),
)


@dataclass(frozen=True)
class Plugin:
    """An installed entry point, which has not been imported."""

    group: str
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def qualified(self) -> str:
        """The unambiguous name ``distribution:name``."""
        return f"{self.distribution}:{self.name}"

    def load(self) -> Any:
        """Import the plugin. Raises UserError that names the package and the error."""
        try:
            return self.entry_point.load()
        except Exception as error:
            raise UserError(
                f"plugin {self.name!r} of {self.distribution} {self.version} fails to import "
                f"({type(error).__name__}: {error}); update or uninstall {self.distribution}"
            ) from error


def list_plugins(group: str) -> list[Plugin]:
    """All plugins of a group, sorted by name, without importing them.

    A plugin may name an extra of its package, as in ``name = "module:Class [extra]"``. It is listed
    only if the packages of that extra are installed.
    """
    found: dict[tuple[str, str], Plugin] = {}
    for entry in entry_points(group=group):
        if entry.dist is None or not all(_is_there(entry.dist, name) for name in entry.extras):
            continue
        key = (entry.name, entry.dist.name)
        found.setdefault(key, Plugin(group, entry.name, entry.dist.name, entry.dist.version, entry))
    return [found[key] for key in sorted(found)]


def _is_there(distribution: Distribution, extra: str) -> bool:
    """Whether the packages that an extra requires are installed."""
    for text in distribution.requires or []:
        requirement, _, marker = text.partition(";")
        name = re.match(r"[\w.-]+", requirement)
        if name and re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", marker):
            try:
                version(name[0])
            except PackageNotFoundError:
                return False
    return True


def make_plugin(
    group: str, name: str, options: Mapping[str, str], preset: str | None = None
) -> Any:
    """Make an operator, sampler or method by its name.

    Options are parsed from text by the types of the class's fields. ``preset`` names one of the
    class's ``presets``, {name: {option: value}}; ``options`` override it. Raises UserError that
    names the plugin if an option does not fit, or if the class needs more than options.
    """
    plugin = find_plugin(group, name)
    cls = plugin.load()
    values = parse_options(cls, options, f"{_kind(group)} {name}", f"any2all plugins {name}")
    if preset is not None:
        presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "presets", {})
        if preset not in presets:
            raise UserError(
                f"{_kind(group)} {name} has no preset {preset!r}; its presets: "
                f"{', '.join(presets) or 'none'}"
            )
        values = {**presets[preset], **values}
    try:
        return cls(**values)
    except TypeError as error:
        raise UserError(
            f"{_kind(group)} {name!r} of {plugin.distribution} can't be made from options alone "
            f"({error}); tell its author"
        ) from None


def _kind(group: str) -> str:
    return group.removeprefix("any2all.").removesuffix("s")


def find_plugin(group: str, name: str) -> Plugin:
    """Find a plugin by its name or its qualified name, ``distribution:name``.

    Raises UserError if there is none, with a list of the installed plugins, or if several packages
    use the name, with their qualified names.
    """
    plugins = list_plugins(group)
    matches = [plugin for plugin in plugins if name in (plugin.name, plugin.qualified)]
    kind = _kind(group)
    if not matches:
        valid = valid_names(name, (p.name for p in plugins), "installed:", "any2all plugins")
        raise UserError(
            f"unknown {kind} {name!r}{valid}. A package adds one through the entry-point group "
            f"{group}"
        )
    if len(matches) > 1:
        names = " or ".join(plugin.qualified for plugin in matches)
        raise UserError(f"{kind} {name!r} comes from {len(matches)} packages; say {names}")
    return matches[0]
