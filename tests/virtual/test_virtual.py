"""Virtual people: the same person for the same seed, and physics that can be checked by hand."""

import math
import re
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from any2all_operators import UserError
from any2all_virtual import LESIONS, TISSUES, Person, virtual_person
from any2all_virtual.anatomy import Anatomy, clefts, draw_anatomy, template_points
from any2all_virtual.atlas import icbm152
from any2all_virtual.person import CENTRE
from any2all_virtual.shapes import ellipsoid
from any2all_virtual.signals import ct, dephasing, flair, gradient_echo, mprage, pet, rician
from any2all_virtual.space import HEAD, Grid, integrate, smooth_field
from any2all_virtual.tissues import (
    FIELD_STRENGTH,
    GYROMAGNETIC_RATIO,
    SUSCEPTIBILITY,
    Flair,
    GradientEcho,
    Mprage,
)

pytestmark = pytest.mark.slow

MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
SPACING, SHAPE = (6.0, 6.0, 6.0), (40, 40, 28)


@cache
def person(seed: int) -> Person:
    return virtual_person(seed, SPACING, SHAPE)


@cache
def anatomy(seed: int) -> Anatomy:
    """Of the same person, as the images were made of it."""
    rng = np.random.default_rng(seed).spawn(3)[0]
    return draw_anatomy(rng, Grid.around(CENTRE, SHAPE, SPACING))


def mean(seed: int, modality: str, tissue: str, least: float = 0.9) -> float:
    """Over the voxels that are nearly all of one tissue."""
    inside = anatomy(seed).fractions[tissue] > least
    assert inside.sum() >= 8, tissue
    return float(person(seed).images[modality].get_fdata()[inside].mean())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_person() -> None:
    again, other = virtual_person(0, SPACING, SHAPE), person(1)
    assert again.facts == person(0).facts != other.facts
    assert again.lesions.to_bytes() == person(0).lesions.to_bytes()
    for name in MODALITIES:
        assert again.images[name].to_bytes() == person(0).images[name].to_bytes()
        assert again.images[name].to_bytes() != other.images[name].to_bytes()


def test_five_modalities_on_one_ras_grid_in_their_units() -> None:
    assert tuple(person(0).images) == MODALITIES
    volumes = [*person(0).images.values(), person(0).lesions]
    for image in volumes:
        assert image.shape == SHAPE
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.header.get_zooms() == SPACING
        np.testing.assert_array_equal(image.affine, volumes[0].affine)
    assert {i.get_data_dtype() for i in volumes} == {np.dtype("float32"), np.dtype("uint8")}
    arrays = {name: image.get_fdata() for name, image in person(0).images.items()}
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert all(arrays[name].min() >= 0 for name in MODALITIES if name != "CT")
    assert -1024 <= arrays["CT"].min() < -990
    assert 700 < arrays["CT"].max() < 2000
    assert 1.2 < np.percentile(arrays["PET"], 99.5) < 4
    assert person(0).facts["virtual"] is True


def test_a_head_has_air_around_it() -> None:
    air = anatomy(0).fractions["air"]
    for side in (air[0], air[-1], air[:, 0], air[:, -1], air[:, :, -1]):
        assert side.min() > 0.99


def test_another_grid_shows_the_same_person() -> None:
    half = virtual_person(0, (3.0, 3.0, 3.0), (80, 80, 56))
    for name, threshold in {"T1": 0.98, "FLAIR": 0.97, "CT": 0.98, "PET": 0.97}.items():
        fine = half.images[name].get_fdata().reshape(40, 2, 40, 2, 28, 2).mean((1, 3, 5))
        coarse = person(0).images[name].get_fdata()
        assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > threshold, name
        stranger = person(1).images[name].get_fdata()
        assert np.corrcoef(fine.ravel(), stranger.ravel())[0, 1] < threshold, name
    assert half.facts == person(0).facts


def test_fractions_are_shares_of_a_voxel() -> None:
    total = sum(anatomy(0).fractions.values())
    np.testing.assert_allclose(total, 1, atol=1e-4)
    assert min(f.min() for f in anatomy(0).fractions.values()) > -1e-5


def test_a_brain_is_as_large_as_brains_are() -> None:
    fractions = anatomy(0).fractions
    litres = (fractions["grey"].sum() + fractions["white"].sum()) * math.prod(SPACING) / 1e6
    assert 0.85 < litres < 1.6


@pytest.mark.parametrize("seed", [0, 1])
def test_contrasts_are_those_of_the_sequences(seed: int) -> None:
    # At 6 mm hardly a voxel is all cortex or all sulcus.
    white, grey = mean(seed, "T1", "white"), mean(seed, "T1", "grey", 0.8)
    assert white > 1.15 * grey
    assert grey > 1.5 * mean(seed, "T1", "csf", 0.8)
    assert mean(seed, "FLAIR", "grey", 0.8) > 1.02 * mean(seed, "FLAIR", "white")
    assert mean(seed, "FLAIR", "csf", 0.8) < 0.4 * mean(seed, "FLAIR", "white")
    assert mean(seed, "T2star", "csf", 0.8) > 1.1 * mean(seed, "T2star", "white")
    assert mean(seed, "T1", "fat", 0.7) > 1.3 * white
    bright = mean(seed, "FLAIR", "fat", 0.7) > 1.4 * mean(seed, "FLAIR", "white")
    assert bright == (person(seed).facts["FLAIR_fat_saturation"] == 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_ct_is_in_hounsfield_units(seed: int) -> None:
    assert mean(seed, "CT", "air", 0.999) == pytest.approx(-1000, abs=10)
    assert mean(seed, "CT", "bone", 0.6) > 600
    assert 24 < mean(seed, "CT", "white") < mean(seed, "CT", "grey", 0.8) < 45
    assert mean(seed, "CT", "muscle", 0.97) == pytest.approx(55, abs=12)


def test_amyloid_fills_the_cortex() -> None:
    def contrast(seed: int) -> float:
        return mean(seed, "PET", "grey", 0.8) / mean(seed, "PET", "white")

    positive, negative = 5, 0
    assert anatomy(positive).facts["amyloid_positive"]
    assert not anatomy(negative).facts["amyloid_positive"]
    assert contrast(positive) > 1.15 * contrast(negative)
    assert contrast(negative) < 0.85  # white matter stands out
    cortex = anatomy(positive).extra_suv[anatomy(positive).fractions["grey"] > 0.8]
    assert cortex.mean() > 0.2


def test_lesions_look_like_lesions() -> None:
    seed = max(range(3), key=lambda s: anatomy(s).facts["white_matter_lesion_load"])
    fractions = anatomy(seed).fractions
    shares = np.stack([fraction.ravel() for fraction in fractions.values()], 1)

    def signals(modality: str) -> dict[str, float]:
        """Of each tissue, for voxels are mixtures."""
        image = person(seed).images[modality].get_fdata().ravel()
        return dict(zip(fractions, np.linalg.lstsq(shares, image)[0], strict=True))

    assert signals("FLAIR")["lesion"] > 1.3 * signals("FLAIR")["white"]
    assert signals("T1")["lesion"] < 0.9 * signals("T1")["white"]
    assert signals("CT")["lesion"] < signals("CT")["white"] - 2
    assert signals("CT")["calcium"] > 200
    labels = np.asarray(person(seed).lesions.dataobj)
    assert set(np.unique(labels)) <= {0, *LESIONS.values()}
    assert fractions["lesion"][labels == LESIONS["white-matter lesion"]].min() > 0.2
    assert fractions["lesion"][labels == 0].max() < 0.35


def test_clefts_part_the_hemispheres_and_spare_the_nuclei() -> None:
    creases = np.array([0, 1], np.float32)  # in a crease of the cortex, and beside it

    def carved(x: float, y: float, z: float) -> list[float]:
        return clefts(np.array([[x, x], [y, y], [z, z]], np.float32), creases).tolist()

    assert carved(40, 20, 45) == pytest.approx([0.4, 0.0])  # cortex
    assert carved(12, -18, 8) == pytest.approx([0.0, 0.0])  # thalamus
    assert carved(0, 40, 20) == pytest.approx([0.55, 0.55])
    y = np.linspace(-85, -60, 101, dtype=np.float32)
    leaves = clefts(np.stack([0 * y + 20, y, 0 * y - 45]), 0 * y)  # cerebellum
    assert leaves.min() == 0
    assert leaves.max() == pytest.approx(0.3)


def test_spreading_over_a_grid_is_sampling_at_its_points() -> None:
    volume = smooth_field(np.random.default_rng(0), 5)[0]
    over = Grid.around((3, -5, 7), (40, 30, 20), (9.0, 11.0, 17.0))  # beyond the border as well
    np.testing.assert_allclose(
        HEAD.spread(volume, over), HEAD.sample(volume, over.points()), atol=1e-4
    )


def test_warps_have_an_inverse_and_do_not_fold() -> None:
    velocity = 8 * smooth_field(np.random.default_rng(0), 20, 3)
    there, back = integrate(velocity), integrate(-velocity)
    x = HEAD.points()
    moved = x + there
    jacobian = np.stack(
        [np.stack(np.gradient(component, *HEAD.spacing)) for component in moved]
    ).transpose(2, 3, 4, 0, 1)
    assert np.linalg.det(jacobian).min() > 0
    home = moved + np.stack([HEAD.sample(component, moved) for component in back])
    inner = (slice(None), *[slice(12, -12)] * 3)
    assert abs(there[inner]).max() > 8
    assert abs(home - x)[inner].max() < 1.0


def test_atrophy_widens_the_ventricles() -> None:
    x, atlas = Grid.around(CENTRE, (60, 60, 42), (4, 4, 4)).points(), icbm152()

    def millilitres(atrophy: float) -> float:
        at = template_points(np.random.default_rng(0), atlas, x, np.ones(3), atrophy=atrophy)
        return float((atlas.coarse.sample(atlas.ventricles, at) < 0).sum() * 4**3 / 1000)

    assert 5 < millilitres(0) < 40
    assert millilitres(1) > 2 * millilitres(0)


def test_mprage_is_what_a_train_of_pulses_settles_to() -> None:
    sequence, tissue = Mprage(), TISSUES["white"]
    angle = math.radians(sequence.flip_angle)
    before = sequence.inversion_time - sequence.echoes * sequence.echo_spacing / 2
    after = sequence.repetition_time - before - sequence.echoes * sequence.echo_spacing
    m = 1.0
    for _ in range(20):
        m = 1 - (1 + m) * math.exp(-before / tissue.t1)
        for pulse in range(sequence.echoes):
            if pulse == sequence.echoes // 2:
                signal = tissue.pd * m * math.sin(angle)
            m = 1 - (1 - m * math.cos(angle)) * math.exp(-sequence.echo_spacing / tissue.t1)
        m = 1 - (1 - m) * math.exp(-after / tissue.t1)
    signal *= math.exp(-sequence.echo_time / tissue.t2_star)
    assert mprage(tissue, sequence) == pytest.approx(signal, rel=1e-9)


def test_flair_nulls_where_it_should_and_gradient_echo_has_its_limit() -> None:
    liquid = TISSUES["csf"]
    null = liquid.t1 * math.log(2 / (1 + math.exp(-Flair().repetition_time / liquid.t1)))
    assert flair(liquid, replace(Flair(), inversion_time=null)) == pytest.approx(0, abs=1e-12)
    long = GradientEcho(repetition_time=1e9, echo_time=20, flip_angle=90)
    grey = TISSUES["grey"]
    assert gradient_echo(grey, long) == pytest.approx(grey.pd * math.exp(-20 / grey.t2_star))


def test_air_takes_the_signal_of_a_gradient_echo_from_its_surroundings() -> None:
    points = Grid.around((0, 0, 0), (48, 48, 48), (2, 2, 2)).points()
    air = np.clip(0.5 - ellipsoid(points, (0, 0, 0), (12, 12, 12)) / 2, 0, 1).astype(np.float32)
    left = dephasing({"air": air, "white": 1 - air}, (2, 2, 2), GradientEcho())
    above, far = left[24, 24, 24 + 9], left[24, 24, 46]
    assert above < 0.5
    assert far > 0.95
    none = dephasing({"air": 0 * air, "white": 1 + 0 * air}, (2, 2, 2), GradientEcho())
    np.testing.assert_allclose(none, 1)


def test_noise_is_as_strong_as_said() -> None:
    rng, empty = np.random.default_rng(0), np.zeros((40, 40, 40), np.float32)
    assert rician(empty, 3.0, rng).mean() == pytest.approx(3 * math.sqrt(math.pi / 2), rel=0.02)
    assert ct(empty, (2, 2, 2), rng, fwhm=1.5, noise_std=4.0).std() == pytest.approx(4, rel=0.01)
    even = pet(empty + 1, (2, 2, 2), rng, fwhm=6.0, noise=0.05)
    assert even.std() == pytest.approx(0.05, rel=0.05)
    assert even.mean() == pytest.approx(1, rel=0.01)


def test_pet_is_blurred_to_the_resolution_asked() -> None:
    point = np.zeros((41, 41, 41), np.float32)
    point[20, 20, 20] = 1
    profile = pet(point, (2, 2, 2), np.random.default_rng(0), fwhm=8.0, noise=0.0)[:, 20, 20]
    assert profile[22] / profile[20] == pytest.approx(0.5, abs=0.02)  # 4 mm off the centre


def test_an_impossible_grid_is_refused() -> None:
    with pytest.raises(UserError, match="at least 8 voxels"):
        virtual_person(0, SPACING, (4, 40, 28))


def test_the_table_in_the_docs_is_the_one_in_use() -> None:
    text = (Path(__file__).parents[2] / "docs" / "virtual-people.md").read_text()
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in TISSUES and len(cells) == 7:
            rows[cells[0]] = tuple(float(re.sub("−", "-", cell)) for cell in cells[1:])
    assert rows == {name: astuple(tissue) for name, tissue in TISSUES.items()}


def test_the_sequences_in_the_docs_are_those_in_use() -> None:
    text = (Path(__file__).parents[2] / "docs" / "virtual-people.md").read_text()
    t1, ir, gre = Mprage(), Flair(), GradientEcho()
    for row in (
        f"| MPRAGE | TI {t1.inversion_time:g}, TR {t1.repetition_time:g}, echo spacing "
        f"{t1.echo_spacing:g}, TE {t1.echo_time:g} ms, {t1.flip_angle:g}° |",
        f"| its train | {t1.echoes} echoes",
        f"| FLAIR | TI {ir.inversion_time:g}, TR {ir.repetition_time:g}, TE {ir.echo_time:g} ms |",
        f"| fat in its echo train | T2 × {ir.fat_t2_gain:g} |",
        f"| T2* | TR {gre.repetition_time:g}, TE {gre.echo_time:g} ms, {gre.flip_angle:g}° |",
        f"{FIELD_STRENGTH:g} T; {GYROMAGNETIC_RATIO:g} MHz/T",
        f"air {SUSCEPTIBILITY['air']:g} ppm",
    ):
        assert row in text, row
