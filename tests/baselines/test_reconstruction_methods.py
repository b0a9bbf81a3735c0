"""Methods that reconstruct: data consistency, and the use of guides."""

from __future__ import annotations

import pytest
import torch
from any2all_baselines import discdiff, mcvarnet
from any2all_baselines.guided import every_comb, zero_filled
from any2all_core import FittedMethod, Scan
from any2all_core.noise import generator
from any2all_mri.kspace import KSpace
from builders.methods import SETTINGS, SIZE, learn, method, question, slices

GUIDED = ("mcvarnet", "minet", "discdiff")


@pytest.mark.parametrize("start", [0.0, 0.7])
def test_data_consistency_of_all_samples_is_the_truth(start: float) -> None:
    """With full sampling and no noise, from any image."""
    truth = slices()[:, 1]
    operator = KSpace(acceleration=1, coils=4, noise_std=0.0).build(SIZE, SIZE)
    scan = Scan(operator.forward(truth), operator, 1)
    found = mcvarnet.agreeing(scan, torch.full_like(truth, start), torch.tensor(0.1))
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=0)


def test_data_consistency_has_its_own_derivatives() -> None:
    operator = every_comb((KSpace(2, 2, 4, 0.05),), (16, 16), torch.device("cpu")).select(
        torch.tensor([0, 1])
    )
    random = generator(0)
    truth = torch.rand(2, 16, 16, generator=random)
    scan = Scan(operator.measure(truth, [generator(1), generator(2)]), operator, 0)
    image = torch.rand(2, 16, 16, generator=random).requires_grad_()
    error = torch.tensor(0.1, requires_grad=True)
    aim = torch.rand(2, 16, 16, generator=random)

    def value(x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return (mcvarnet.agreeing(scan, x, e) - aim).square().sum()

    value(image, error).backward()
    assert image.grad is not None
    assert error.grad is not None
    along = torch.rand(2, 16, 16, generator=random)
    with torch.no_grad():
        for slope, (dx, de) in (
            ((image.grad * along).sum(), (1e-2 * along, 0.0)),
            (error.grad, (0.0, 1e-2)),
        ):
            up, down = value(image + dx, error + de), value(image - dx, error - de)
            assert float((up - down) / 2e-2) == pytest.approx(float(slope), rel=2e-2)


def test_disentanglement_of_equal_streams_has_a_finite_gradient() -> None:
    stream = torch.rand(2, 4, 8, 8)
    parts = [stream.clone().requires_grad_() for _ in range(6)]
    value = discdiff.disentanglement(parts[:3], parts[3:])
    value.backward()
    for part in parts:
        assert part.grad is not None
        assert bool(torch.isfinite(part.grad).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDED)
def test_a_guide_that_is_the_target_is_found(name: str) -> None:
    """10 dB better than what is zero-filled, of slices that were learnt, within 600 steps."""
    x = slices()
    x[:, 0] = x[:, 2] = x[:, 1]
    wider = ":channels=16+24:sampling_steps=8" if name == "discdiff" else ""
    of = method(name, "learning_rate=2e-3:acceleration=8:acs_lines=2" + wider)
    operator = of.scan_in_training(SETTINGS, "FLAIR")
    data = operator.measure(x[:, 1], [generator(9, b) for b in range(len(x))])
    plain = (zero_filled(Scan(data, operator, 1)) - x[:, 1]).square().mean()
    gain = torch.zeros(())
    for step, (network, _) in enumerate(learn(of, 600, lambda k: question(of, x, k, True))):
        if step % 25 == 24:
            own = FittedMethod("own", of, network.eval(), SETTINGS)
            shown = ("T1", "T1Gd")
            made = own.recover(data, operator, "FLAIR", given=x, available=shown)[:, 1]
            network.train()
            gain = 10 * (plain / (made - x[:, 1]).square().mean()).log10()
            if gain > 10:
                break
    assert gain > 10
