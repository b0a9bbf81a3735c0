"""Operators: adjoint, linearity and prox, and agreement with SigPy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from any2all_operators import (
    BlockDiagonal,
    FieldOfView,
    Identity,
    Measurement,
    Operator,
    SenseFourier,
    UnknownPhase,
    UserError,
    Zero,
    check_operator,
    conjugate_gradient,
    equispaced_mask,
)
from builders.scans import birdcage_maps, cartesian_scan, sense


def turned(scan: SenseFourier) -> SenseFourier:
    """The same scan with rows and columns exchanged: rows of k-space are missing."""
    width = scan.coil_maps.shape[2]
    mask = scan.mask[:, None].expand(width, scan.coil_maps.shape[1])
    return SenseFourier(scan.coil_maps.mT.contiguous(), mask, scan.noise_std)


def complex_(scan: SenseFourier) -> SenseFourier:
    """The same scan of complex images."""
    return replace(scan, complex_image=True)


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (Identity(), (8, 6)),
        (Zero(), (8, 6)),
        (sense(), (24, 20)),
        (sense(21, 17), (21, 17)),
        (sense(two_d=True), (24, 20)),
        (turned(sense()), (20, 24)),
        (FieldOfView(sense(), (24, 20), (26, 25)), (26, 25)),
        (FieldOfView(sense(21, 17), (21, 17), (18, 20)), (18, 20)),
        (complex_(sense()), (24, 20)),
        (complex_(sense(two_d=True)), (24, 20)),
        (complex_(turned(sense())), (20, 24)),
        (UnknownPhase(complex_(sense())), (24, 20)),
        (UnknownPhase(complex_(sense()), torch.linspace(-1, 1, 20).expand(24, 20)), (24, 20)),
        (UnknownPhase(FieldOfView(complex_(sense()), (24, 20), (26, 25))), (26, 25)),
    ],
    ids=[
        *("identity", "zero", "sense", "sense of odd size", "sense with a 2D mask"),
        *("sense without rows", "sense of a smaller field", "sense of a longer, narrower field"),
        *("complex sense", "complex sense with a 2D mask", "complex sense without rows"),
        *("unknown phase", "a phase that is thought of", "unknown phase of a smaller field"),
    ],
)
def test_operators_keep_their_contract(operator: Operator, shape: tuple[int, int]) -> None:
    errors = check_operator(operator, shape)
    assert max(errors.values()) < 1e-4


@pytest.mark.parametrize(("height", "width"), [(24, 20), (21, 17)])
@pytest.mark.parametrize("two_d", [False, True])
def test_sense_agrees_with_sigpy(height: int, width: int, two_d: bool) -> None:
    from sigpy.mri.linop import Sense

    ours = sense(height, width, two_d=two_d)
    reference = Sense(ours.coil_maps.numpy(), weights=ours.mask.numpy())
    image = torch.randn(1, height, width)
    expected = reference(image[0].numpy().astype(np.complex64))
    y = ours.forward(image)
    np.testing.assert_allclose(y[0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(ours.adjoint(y)[0], (reference.H * expected).real, atol=1e-5)


def test_row_wise_prox_is_that_of_conjugate_gradients() -> None:
    operator = sense()
    x, anchor = torch.rand(2, 24, 20), torch.rand(2, 24, 20)
    y = operator.forward(x)
    for weight in (0.3, 30.0):
        by_iteration = conjugate_gradient(
            lambda u: u + weight * operator.normal(u),  # noqa: B023
            anchor + weight * operator.adjoint(y),
            anchor,
            tolerance=1e-7,
        )
        torch.testing.assert_close(
            operator.prox(y, anchor, weight), by_iteration, atol=1e-4, rtol=0
        )


def test_a_scan_with_rows_and_columns_exchanged_is_solved_row_by_row_too() -> None:
    scan = sense()
    image, anchor = torch.rand(2, 2, 24, 20)
    expected = scan.prox(scan.forward(image), anchor, 50.0)
    other = turned(scan)
    found = other.prox(other.forward(image.mT), anchor.mT, 50.0)
    torch.testing.assert_close(found.mT, expected, rtol=1e-4, atol=1e-5)
    assert other.acceleration == pytest.approx(scan.acceleration)


@pytest.mark.parametrize("two_d", [False, True])
def test_slices_may_have_coil_maps_of_their_own(two_d: bool) -> None:
    one, two = sense(two_d=two_d), sense(two_d=two_d)
    two = SenseFourier(two.coil_maps.roll(3, 1), two.mask, two.noise_std)
    both = SenseFourier(torch.stack([one.coil_maps, two.coil_maps]), one.mask, one.noise_std)
    image, anchor = torch.rand(2, 2, 24, 20)
    y = both.forward(image)
    u = both.prox(y, anchor, 20.0)
    for k, alone in enumerate((one, two)):
        torch.testing.assert_close(y[k : k + 1], alone.forward(image[k : k + 1]))
        expected = alone.prox(y[k : k + 1], anchor[k : k + 1], 20.0)
        torch.testing.assert_close(u[k : k + 1], expected, rtol=1e-4, atol=1e-4)
    index = torch.tensor([1, 0, 1])
    chosen = both.select(index)
    torch.testing.assert_close(chosen.forward(image[index]), y[index])
    torch.testing.assert_close(
        chosen.prox(y[index], anchor[index], 20.0), u[index], atol=1e-4, rtol=0
    )
    assert one.select(index) is one
    with pytest.raises(UserError, match=r"expected \(2, 24, 20\)"):
        both.forward(image[:1])


@pytest.mark.parametrize("kind", ["lines", "rows", "samples"])
@pytest.mark.parametrize("own_maps", [False, True])
def test_slices_may_have_masks_of_their_own(kind: str, own_maps: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    shape = {"lines": (2, 1, 20), "rows": (2, 24, 1), "samples": (2, 24, 20)}[kind]
    masks = (torch.rand(shape, generator=generator) < 0.5).float().expand(2, 24, 20)
    maps = birdcage_maps(3, 24, 20)
    maps = torch.stack([maps, maps.roll(3, 1)]) if own_maps else maps
    both = SenseFourier(maps, masks, 0.01)
    assert (both._row_wise is None) == (kind == "samples")
    image, anchor = torch.rand(2, 2, 24, 20, generator=generator)
    y = both.forward(image)
    u = both.prox(y, anchor, 20.0)
    index = torch.tensor([1, 0, 1])
    chosen = both.select(index)
    torch.testing.assert_close(chosen.forward(image[index]), y[index])
    again = chosen.prox(y[index], anchor[index], 20.0)
    torch.testing.assert_close(again, u[index], atol=1e-4, rtol=0)
    for k in range(2):
        alone = SenseFourier(maps[k] if own_maps else maps, masks[k], 0.01)
        part = slice(k, k + 1)
        torch.testing.assert_close(y[part], alone.forward(image[part]))
        torch.testing.assert_close(both.adjoint(y)[part], alone.adjoint(y[part]))
        torch.testing.assert_close(both.normal(image)[part], alone.normal(image[part]))
        expected = alone.prox(y[part], anchor[part], 20.0)
        torch.testing.assert_close(u[part], expected, rtol=1e-4, atol=1e-4)
    assert both.acceleration == pytest.approx(1 / float(masks.mean()))
    assert both.data_size(y) == pytest.approx(6 * float(masks.sum()) / 2, abs=1)
    noise = both.noise(y, [torch.Generator().manual_seed(k) for k in range(2)])
    assert not (noise.abs().sum(1) * (1 - masks)).any()
    with pytest.raises(UserError, match=r"expected \(2, 24, 20\)"):
        both.forward(image[:1])


def test_the_preconditioner_saves_steps() -> None:
    mask = (torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) < 1 / 6).float()
    mask[27:37, 27:37] = 1
    scan = SenseFourier(birdcage_maps(8, 64, 64), mask, 0.01)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    image = (inside * (0.7 + 0.2 * torch.sin(4 * x) * torch.cos(5 * y)))[None]
    y = scan.measure(image, [torch.Generator().manual_seed(0)])
    for weight in (10.0, 100.0):
        b = weight * scan.adjoint(y)

        def solve(weight: float = weight, b: torch.Tensor = b, **more: Any) -> torch.Tensor:
            return conjugate_gradient(
                lambda u: u + weight * scan.normal(u),
                b,
                torch.zeros_like(b),
                **more,
            )

        exact = solve(tolerance=1e-7)

        def steps(exact: torch.Tensor = exact, **more: Any) -> int:
            return next(
                n
                for n in range(1, 200)
                if (solve(max_steps=n, tolerance=0.0, **more) - exact).norm() < 1e-3 * exact.norm()
            )

        assert steps(precondition=scan.preconditioner(weight)) <= 0.75 * steps()


def test_infinite_weight_fits_the_data_and_leaves_the_rest() -> None:
    operator = sense()
    x, anchor = torch.rand(1, 24, 20), torch.rand(1, 24, 20)
    y = operator.forward(x)
    u = operator.prox(y, anchor, math.inf)
    assert float((operator.forward(u) - y).abs().max()) < 1e-3
    again = operator.prox(operator.forward(anchor), anchor, math.inf)
    torch.testing.assert_close(again, anchor, atol=1e-3, rtol=0)


def test_infinite_weight_is_stable_at_full_size() -> None:
    scan = cartesian_scan(128, acceleration=4, coils=8, acs_lines=8, noise_std=0)
    x, anchor = torch.rand(1, 128, 128), torch.rand(1, 128, 128)
    u = scan.prox(scan.forward(x), anchor, math.inf)
    assert float((scan.forward(u) - scan.forward(x)).abs().max()) < 0.05
    assert float((u - x).norm()) < float((anchor - x).norm())


def test_prox_treats_each_entry_of_a_batch_alone() -> None:
    operator = sense(two_d=True)
    scale = torch.tensor([1.0, 100.0, 0.01])[:, None, None]
    x = torch.rand(3, 24, 20) * scale
    y, anchor = operator.forward(x), torch.zeros_like(x)
    together = operator.prox(y, anchor, 5.0)
    alone = torch.cat([operator.prox(y[k : k + 1], anchor[:1], 5.0) for k in range(3)])
    torch.testing.assert_close(together / scale, alone / scale, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True)
class Broken(Operator):
    """Half the adjoint."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 2 * image

    def adjoint(self, data: torch.Tensor) -> torch.Tensor:
        return data


@dataclass(frozen=True)
class Affine(Broken):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 1


@pytest.mark.parametrize(("operator", "named"), [(Broken(), "adjoint"), (Affine(), "linearity")])
def test_check_operator_names_what_fails(operator: Operator, named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        check_operator(operator, (8, 8))


def test_block_diagonal_solves_each_modality_by_itself() -> None:
    blocks = BlockDiagonal({"T1": Identity(), "FLAIR": sense(), "CT": Zero()})
    x, anchor = torch.rand(2, 3, 24, 20), torch.rand(2, 3, 24, 20)
    y = blocks.forward(x)
    u = blocks.prox(y, anchor, {"T1": math.inf, "FLAIR": 3.0, "CT": math.inf})
    assert torch.equal(u[:, 0], x[:, 0])
    assert torch.equal(u[:, 2], anchor[:, 2])
    torch.testing.assert_close(
        u[:, 1], blocks.operators["FLAIR"].prox(y["FLAIR"], anchor[:, 1], 3.0)
    )
    residual = Measurement(blocks, y).residual(x)
    assert set(residual) == {"T1", "FLAIR"}
    assert float(residual["FLAIR"].max()) < 1e-5


def test_errors_name_both_sides() -> None:
    with pytest.raises(UserError, match=r"\(2, 8, 8\).*\(3, 24, 20\)"):
        sense().forward(torch.zeros(2, 8, 8))
    with pytest.raises(UserError, match=r"mask is \(7,\)"):
        SenseFourier(birdcage_maps(3, 24, 20), torch.ones(7))
    with pytest.raises(UserError, match="acceleration 0"):
        equispaced_mask(128, 0)


def test_arrays_may_be_numpys_in_double_precision() -> None:
    scan = sense()
    maps: Any = scan.coil_maps.numpy().astype(np.complex128)
    mask: Any = scan.mask.numpy() > 0
    text: Any = "maps"
    theirs = SenseFourier(maps, mask, noise_std=0.01)
    x = torch.rand(2, 24, 20)
    torch.testing.assert_close(theirs.forward(x), scan.forward(x))
    with pytest.raises(UserError, match=r"coil maps: .*; expected an array of numbers"):
        SenseFourier(text, scan.mask)
