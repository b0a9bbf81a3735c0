"""Finding methods by the names of their entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from any2all_operators import UserError

from any2all_core.method import Method
from any2all_core.registry import find_plugin, make_plugin

GROUP = "any2all.methods"


def make_method(name: str, options: Mapping[str, str], preset: str | None = None) -> Method:
    """Make an untrained method by the name of its entry point. Raises UserError."""
    method = make_plugin(GROUP, name, options, preset)
    if not isinstance(method, Method):
        raise UserError(
            f"method {name!r} is a {type(method).__name__}, not a Method; tell its author"
        )
    return method


def method_of(name: str, options: Mapping[str, Any]) -> Method:
    """Make a method from options stored as JSON, where tuples have become lists."""
    try:
        plugin = find_plugin(GROUP, name)
    except UserError:
        package = name.partition(":")[0]
        raise UserError(f"this needs method {name}; run pip install {package}") from None
    cls = plugin.load()
    known = {f.name for f in fields(cls)}
    if unknown := set(options) - known:
        raise TypeError(f"options {', '.join(sorted(unknown))} are unknown to {name}")
    kept = {n: tuple(v) if isinstance(v, list) else v for n, v in options.items()}
    method: Method = cls(**kept)
    return method
