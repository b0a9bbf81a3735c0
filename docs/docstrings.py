"""How the site reads docstrings and types.

- A role such as :class:`Operator` becomes code.
- ``<modality>.nii.gz`` outside of code keeps its brackets, which Markdown takes for HTML.
- Parameters that share a description, as ``draws, seed``, are listed one by one, each with its own
  type.
- The texts of ``Annotated`` fields, which say on the command line what an option means, become the
  parameters of their class.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")
BRACKETS = re.compile(r"(`+)(?:.|\n)+?\1|<(?=[a-z]+>)")
"""Code, which stays as it is, or the beginning of what looks like an element of HTML."""
SHARED = re.compile(r"^(\w+(?:, \w+)+)\n((?: {4}.*\n?)+)", re.M)


def each(found: re.Match[str]) -> str:
    """An entry of its own for each of the parameters that share a description."""
    return "".join(f"{name}\n{found[2].rstrip()}\n" for name in found[1].split(", "))


class Docstrings(griffe.Extension):  # type: ignore[misc]
    """Rewrites docstrings, and the fields of a class, as they are loaded."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            text = BRACKETS.sub(lambda found: found[0] if found[1] else "&lt;", text)
            obj.docstring.value = SHARED.sub(each, text)

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        meanings = {}
        for name, field in cls.attributes.items():
            if getattr(field.annotation, "canonical_name", "") == "Annotated":
                field.annotation, meaning = field.annotation.slice.elements[:2]
                meanings[name] = ast.literal_eval(str(meaning))
        if meanings and cls.docstring:
            listed = "\n".join(f"{name}\n    {text}." for name, text in meanings.items())
            cls.docstring.value += f"\n\nParameters\n----------\n{listed}\n"
