"""From tissues to images: MR signal equations, CT, PET, blur and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

from any2all_virtual.space import Array
from any2all_virtual.tissues import (
    FIELD_STRENGTH,
    GYROMAGNETIC_RATIO,
    SUSCEPTIBILITY,
    Flair,
    GradientEcho,
    Mprage,
    Tissue,
)

FWHM = 2 * np.sqrt(2 * np.log(2))  # over σ, of a Gaussian


def mprage(tissue: Tissue, sequence: Mprage) -> float:
    """Return the steady-state signal of an inversion-prepared train of spoiled echoes.

    Between pulses M ← 1 + (M cos α − 1) e^(−τ/T1); before and after the train M relaxes freely.
    One cycle is an affine map of M, whose fixed point is the steady state (Mugler & Brookeman
    1990; Deichmann 2000). Read in the middle of the train: S = PD M sin α e^(−TE/T2*).
    """
    cos, sin = np.cos(np.radians(sequence.flip_angle)), np.sin(np.radians(sequence.flip_angle))
    train = sequence.echoes * sequence.echo_spacing
    before = sequence.inversion_time - train / 2
    after = sequence.repetition_time - before - train

    def relax(m: float, time: float) -> float:
        return float(1 + (m - 1) * np.exp(-time / tissue.t1))

    def pulses(m: float, count: int) -> float:
        decay = np.exp(-sequence.echo_spacing / tissue.t1)
        settled = (1 - decay) / (1 - cos * decay)
        return float(settled + (m - settled) * (cos * decay) ** count)

    def cycle(m: float) -> float:
        return relax(pulses(relax(-m, before), sequence.echoes), after)

    steady = cycle(0) / (1 - (cycle(1) - cycle(0)))
    middle = pulses(relax(-steady, before), sequence.echoes // 2)
    return float(tissue.pd * middle * sin * np.exp(-sequence.echo_time / tissue.t2_star))


def flair(tissue: Tissue, sequence: Flair) -> float:
    """S = PD (1 − 2 e^(−TI/T1) + e^(−TR/T1)) e^(−TE/T2) (Hajnal 1992)."""
    recovery = (
        1
        - 2 * np.exp(-sequence.inversion_time / tissue.t1)
        + np.exp(-sequence.repetition_time / tissue.t1)
    )
    return float(tissue.pd * recovery * np.exp(-sequence.echo_time / tissue.t2))


def gradient_echo(tissue: Tissue, sequence: GradientEcho) -> float:
    """S = PD sin α (1 − E1) / (1 − E1 cos α) e^(−TE/T2*), E1 = e^(−TR/T1).

    Ernst & Anderson 1966.
    """
    angle = np.radians(sequence.flip_angle)
    e1 = np.exp(-sequence.repetition_time / tissue.t1)
    steady = np.sin(angle) * (1 - e1) / (1 - e1 * np.cos(angle))
    return float(tissue.pd * steady * np.exp(-sequence.echo_time / tissue.t2_star))


def mixture(fractions: Mapping[str, Array], values: Mapping[str, float]) -> Array:
    """Σ fraction × value over the tissues, (X, Y, Z)."""
    total = np.zeros_like(next(iter(fractions.values())))
    for name, fraction in fractions.items():
        total += np.float32(values[name]) * fraction
    return total


def dephasing(
    fractions: Mapping[str, Array], spacing: Sequence[float], sequence: GradientEcho
) -> Array:
    """Return the fraction (X, Y, Z) of a gradient-echo signal that susceptibility leaves, 0 to 1.

    ΔB/B0 = F⁻¹[(1/3 − k_z²/k²) F χ] (Salomir 2003), B0 along z; a linear field of g Hz/mm over a
    voxel of Δ mm leaves |sinc(g Δ TE)| along each axis.
    """
    chi = sum(
        np.float32(ppm) * fractions[name]
        for name, ppm in SUSCEPTIBILITY.items()
        if name in fractions
    )
    pad = [(n // 4, n // 4) for n in np.shape(chi)]
    chi = np.pad(chi, pad, "edge")
    frequencies = (fft.fftfreq, fft.fftfreq, fft.rfftfreq)
    axes = zip(frequencies, chi.shape, spacing, strict=True)
    kx, ky, kz = np.ix_(*(of(n, d).astype(np.float32) for of, n, d in axes))
    k2 = kx**2 + ky**2 + kz**2
    k2[0, 0, 0] = 1
    field = fft.irfftn((np.float32(1 / 3) - kz**2 / k2) * fft.rfftn(chi), chi.shape)
    field = field[tuple(slice(a, -b) for a, b in pad)] * GYROMAGNETIC_RATIO * FIELD_STRENGTH  # Hz
    left = np.ones_like(field)
    for gradient in np.gradient(field):  # Hz a voxel
        left *= abs(np.sinc(gradient * sequence.echo_time / 1000))
    return left.astype(np.float32)


def rician(signal: Array, noise_std: float, rng: np.random.Generator) -> Array:
    """|S + n| with complex noise of ``noise_std`` in each component (Gudbjartsson 1995)."""
    real, imaginary = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return np.hypot(signal + np.float32(noise_std) * real, np.float32(noise_std) * imaginary)


def blurred(image: Array, fwhm: float, spacing: Sequence[float]) -> Array:
    """Blur an image with a Gaussian point spread function of ``fwhm`` mm."""
    return gaussian_filter(image, [fwhm / FWHM / s for s in spacing], mode="nearest")


def ct(
    hu: Array, spacing: Sequence[float], rng: np.random.Generator, *, fwhm: float, noise_std: float
) -> Array:
    """Blur HU by a kernel of ``fwhm`` mm and add noise of ``noise_std`` HU, coloured by it too."""
    noise = blurred(rng.standard_normal(hu.shape, dtype=np.float32), fwhm, spacing)
    noisy = blurred(hu, fwhm, spacing) + np.float32(noise_std) * noise / noise.std()
    return np.clip(noisy, -1024, 3071)


def pet(
    suv: Array, spacing: Sequence[float], rng: np.random.Generator, *, fwhm: float, noise: float
) -> Array:
    """Blur SUV (g/ml) to ``fwhm`` mm and add counting noise of variance noise² × SUV.

    The noise is as smooth as the image, because reconstruction smooths both.
    """
    seen = blurred(suv, fwhm, spacing)
    grain = blurred(rng.standard_normal(suv.shape, dtype=np.float32), 0.7 * fwhm, spacing)
    return np.maximum(seen + noise * np.sqrt(seen + 0.02) * grain / grain.std(), 0)
