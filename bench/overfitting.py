"""Loss and PSNR of x̂_0 on patients of train, val and test, all measured in the same way.

    python bench/overfitting.py --prior virtual --data COHORT
    python bench/overfitting.py --prior lgg --data LGG      # train/, val/, test/ with patients

The measurement is that of the validation during training: 64 slices, evenly spread over the
patients. If train is no better than val, more steps or a larger network would help more than more
patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from any2all_core import load_prior
from any2all_core.objective import validate, validation_slices
from any2all_data.folder_slices import read_slices
from any2all_data.patients import Patients


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--prior", required=True)
    arguments.add_argument("--data", required=True)
    options = arguments.parse_args()
    prior = load_prior(options.prior, "float32")
    patients = Patients.at(options.data)
    for split in ("train", "val", "test"):
        if store := patients.cohort:
            slices = store.slices(store.having(prior.modalities, split), prior.modalities)
        else:
            slices = read_slices([Path(p) for p in patients.of(split).values()], prior.modalities)
        measured = validate(prior, validation_slices(slices))
        figures = "  ".join(f"{k} {v:.4g}" for k, v in measured.items())
        print(f"{split}: {figures}", flush=True)


if __name__ == "__main__":
    main()
