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
# # Your own k-space arrays
#
# You have k-space in a NumPy or torch array and want an image. This page makes such an array, with
# coil maps, noise and an unknown phase, and reconstructs it. Put your own array in its
# place.
#
# | axis | what |
# |---|---|
# | slices | any number |
# | coils | as many as the receiver has |
# | H | readout; row 0 is anterior |
# | W | phase encoding; column 0 is the patient's right |
#
# k-space is centred, from an orthonormal Fourier transform, and 0 where it was not sampled.

# %%
import matplotlib.pyplot as plt
import numpy as np
from any2all_data import RawKSpace, birdcage_maps, calibrate, read_patient
from any2all_demo import lgg
from any2all_operators import equispaced_mask

flair = read_patient(lgg.example, ["FLAIR"])["FLAIR"].normalised[:1]  # (1, 128, 128)
rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
phase = np.exp(1j * (1.5 * rows + columns**2))
maps = birdcage_maps(8, 128, 128).numpy()  # (coils, H, W)

mask = equispaced_mask(128, acceleration=4, acs_lines=24).numpy()  # (W,)
coil_images = np.fft.ifftshift(flair[:, None] * phase * maps, axes=(2, 3))
kspace = np.fft.fftshift(np.fft.fft2(coil_images, norm="ortho"), axes=(2, 3))
noise = np.random.default_rng(0).normal(0, 0.01, (2, *kspace.shape))
kspace = mask * (kspace + noise[0] + 1j * noise[1])  # (slices, coils, H, W)
kspace.shape, f"{mask.mean():.0%} of the lines"

# %% [markdown]
# `calibrate` estimates coil maps, phase, noise and scale from the samples. It returns the forward
# model y = A x + n and the data y on the scale of images in [0, 1].

# %%
whole_mask = np.broadcast_to(mask, (128, 128)).astype(np.float32)
scan = calibrate(RawKSpace(kspace.astype(np.complex64), whole_mask), (128, 128))
print(f"noise_std {scan.operator.noise_std:.4f}, which is 0.01 in truth")

# %% [markdown]
# `reconstruct` draws images that agree with the data. The prior `lgg` also knows T1 and T1Gd; it
# draws them as well, because neither was measured.

# %%
from any2all_core import load_prior, reconstruct
from any2all_operators import BlockDiagonal

prior = load_prior("lgg")
A = BlockDiagonal({"FLAIR": scan.operator})
stack = reconstruct(prior, A, {"FLAIR": scan.data})  # (draws, slices, modalities, H, W)
image = stack[0, 0, prior.modalities.index("FLAIR")].numpy() * scan.scale
image.shape

# %% [markdown]
# The zero-filled images of the same samples show aliasing. `‖y − A x‖` over the noise is near 1 if
# an image explains the data.

# %%
zero_filled = np.fft.ifft2(np.fft.ifftshift(kspace[0], axes=(1, 2)), norm="ortho")
zero_filled = np.sqrt((np.abs(np.fft.fftshift(zero_filled, axes=(1, 2))) ** 2).sum(0))


def psnr(picture: np.ndarray) -> float:
    """PSNR in dB on the scale of the truth, whose data range is 1."""
    return float(-10 * np.log10(((picture - flair[0]) ** 2).mean()))


figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
pictures = {"zero-filled": zero_filled, "reconstructed": image, "truth": flair[0]}
for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, "gray", vmin=0, vmax=1)
    said = "" if name == "truth" else f", {psnr(picture):.1f} dB"
    axis.set(title=name + said, xticks=[], yticks=[])

# %% [markdown]
# ## If you know the coil maps
#
# Leave `calibrate` out and say what you know. Coil maps that ESPIRiT found have the phase of the
# object in them, so the image is real. If yours don't, say so: `UnknownPhase(SenseFourier(maps,
# mask, noise_std, complex_image=True))`.

# %%
from any2all_operators import SenseFourier
from any2all_samplers import MDS

scan = SenseFourier(phase * maps, mask, noise_std=0.01)
stack = reconstruct(prior, BlockDiagonal({"FLAIR": scan}), {"FLAIR": kspace}, MDS(10))
f"{psnr(stack[0, 0, prior.modalities.index('FLAIR')].numpy()):.1f} dB"

# %% [markdown]
# The synthetic patient was drawn from the prior itself, so the numbers here are better than those
# of a real patient; [evidence](../evidence.md) has these. A file of fastMRI or ISMRMRD needs no
# code: see [my k-space arrays](../how-to/kspace.md).
