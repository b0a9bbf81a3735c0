"""What is reported of a result."""

from __future__ import annotations

import pytest
import torch
from any2all_app.report import check_finite
from any2all_operators import UserError


def test_a_result_that_is_not_finite_is_refused() -> None:
    results = torch.zeros(2, 3, 2, 4, 4)
    check_finite(results, ("T1", "FLAIR"), [4, 5, 7])
    results[1, 2, 1, 0, 3] = torch.nan
    with pytest.raises(UserError, match="FLAIR: the result of slice 7 is NaN or infinite"):
        check_finite(results, ("T1", "FLAIR"), [4, 5, 7])
