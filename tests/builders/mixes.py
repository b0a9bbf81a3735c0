"""A mix of inputs, and few steps, on the command line."""

from __future__ import annotations

MIX = "T1=clean,FLAIR=kspace:acceleration=2:coils=4"
FEW = ("--set", "steps=3")
