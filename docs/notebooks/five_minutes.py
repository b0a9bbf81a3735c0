# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Five minutes with the demo
#
# A virtual person has five images: T1, FLAIR, T2\*, CT and PET. We pretend that the T1 is there,
# that every fourth line of the FLAIR's k-space and 8 lines in its centre were measured, and that
# nothing else was. That is 3.2-fold undersampling in effect. The prior `virtual` completes the
# rest. No such person exists, so there is a truth to compare with.
#
#     pip install "any2all[demo]" matplotlib

# %%
from pathlib import Path

import any2all
import matplotlib.pyplot as plt
from any2all_data import read_patient, to_stack
from any2all_demo import virtual

known = {"T1": "clean", "FLAIR": "kspace:acceleration=4"}
completion = any2all.complete(virtual.example, known, "virtual", slices="5")
{name: image.shape for name, image in completion.images.items()}  # (slices, H, W)

# %% [markdown]
# `completion.images` has units: CT in HU and PET in SUV. A missing MR image is in [0, 1].
# `completion.draws` has all of them in [0, 1]. Above is the result, below the truth.

# %%
names = completion.modalities
volumes = read_patient(virtual.example, names, completion.measurement.format)
truth = to_stack(volumes)[5]  # (modalities, H, W) in [0, 1]
figure, axes = plt.subplots(2, 5, figsize=(10, 4.8), layout="constrained")
for k, name in enumerate(names):
    axes[0, k].imshow(completion.draws[0, 0, k], "gray", vmin=0, vmax=1)
    axes[1, k].imshow(truth[k], "gray", vmin=0, vmax=1)
    axes[0, k].set_title(f"{name}: {known.get(name, 'missing').partition(':')[0]}")
axes[0, 0].set_ylabel("result")
axes[1, 0].set_ylabel("truth")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])

# %% [markdown]
# The report says how each image was made and how good it is. `score_without_prior` is the score of
# least squares on the same k-space, without the prior.

# %%
for name, said in completion.report["modalities"].items():
    line = f"{name:7} {said['source']}"
    for score in ("score", "score_without_prior"):
        if score in said:
            line += f", {score} {said[score]['psnr']:.1f} dB"
    print(line)

# %% [markdown]
# ## How sure is it?
#
# One result does not show its uncertainty. Several draws do: they differ where the data leaves the
# image open. `mcs` is a sampler whose draws spread as the posterior does; see
# [samplers](../samplers.md).

# %%
known = {"T1": "clean"}
drawn = any2all.complete(virtual.example, known, "virtual", "mcs:steps=8", draws=4, slices="5")
figure, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
ct = volumes["CT"].slices[5]  # in HU
pictures = {
    "mean of 4 draws": drawn.images["CT"][0],
    "truth": ct,
    "|error|": abs(drawn.images["CT"][0] - ct),
    "standard deviation": drawn.std["CT"][0],
}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    is_image = title in ("mean of 4 draws", "truth")
    shown = axis.imshow(
        picture,
        "gray" if is_image else "inferno",
        vmin=-1000 if is_image else 0,
        vmax=1000 if is_image else 500,
    )
    axis.set(title=title, xticks=[], yticks=[])
    figure.colorbar(shown, ax=axis, location="bottom", label="HU")

# %% [markdown]
# ## Keep it
#
# `save` writes NIfTI files, `preview.png` and `report.json`. `any2all view out` shows them in the
# browser.

# %%
completion.save("out")
sorted(path.name for path in Path("out").iterdir())

# %% [markdown]
# The same on the command line:
#
#     any2all sample --prior virtual --modalities T1=clean,FLAIR=kspace --output out
#     any2all view out
#
# Next: [your DICOM folder](../how-to/dicom.md), [your NIfTI files](../how-to/nifti.md) or [your own
# k-space arrays](kspace_arrays.py).
