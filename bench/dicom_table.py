"""The result of reading every DICOM folder of a tree: a volume or a reason, as a Markdown table.

    python bench/dicom_table.py ../shared/data/dicom

Each folder is read by itself. A damaged file that belongs to no series has its own line. The mean
is that of the whole volume, in its unit. With --syntaxes, the table has every transfer syntax of
the tree instead, and how many of its images are decoded; a single image needs no geometry for that.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
from any2all_data.decode import stored_values
from any2all_data.dicom import find_series, read_series, unit_of
from any2all_operators import UserError
from pydicom import config, dcmread
from pydicom.errors import InvalidDicomError


def folders(root: Path) -> list[Path]:
    """The folders that hold files and no other folder."""
    parents = {path.parent for path in root.rglob("*") if path.is_file()}
    return sorted(p for p in parents if not any(child.is_dir() for child in p.iterdir()))


def table(root: Path) -> None:
    print("| folder | series | slices | result | unit, mean |")
    print("|---|---|---|---|---|")
    for folder in folders(root):
        series, damaged = find_series(folder)
        name = folder.relative_to(root)
        for one in series:
            number = one.tags.get("SeriesNumber", "–")
            try:
                image = read_series(one)
            except UserError as error:
                result, unit = str(error).split(": ", 2)[2], "–"
            else:
                shape = " x ".join(map(str, image.shape))
                spacing = " x ".join(f"{d:.4g}" for d in nib.affines.voxel_sizes(image.affine))
                axes = "".join(nib.aff2axcodes(image.affine))
                result = f"{shape}, {spacing} mm, {axes}"
                unit = f"{unit_of(one)}, {np.asarray(image.dataobj).mean():.4g}"
            print(f"| {name} | {number} | {one.frames} | {result} | {unit} |")
        for path, why in damaged:
            print(f"| {name} | – | – | {path.name}: {why} | – |")


def syntaxes(root: Path) -> None:
    config.settings.reading_validation_mode = config.IGNORE
    images, decoded = Counter[str](), Counter[str]()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if "Rows" not in header:
            continue
        name = header.file_meta.TransferSyntaxUID.name
        images[name] += 1
        frames = range(int(header.get("NumberOfFrames", 1)))
        decoded[name] += len(stored_values(path, frames)) == len(frames)
    print("| transfer syntax | images | decoded |")
    print("|---|---|---|")
    for name in sorted(images):
        print(f"| {name} | {images[name]} | {decoded[name]} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--syntaxes", action="store_true")
    arguments = parser.parse_args()
    (syntaxes if arguments.syntaxes else table)(arguments.root)


if __name__ == "__main__":
    main()
