"""Linear forward models for imaging inverse problems."""

from any2all_operators.around import Around
from any2all_operators.arrays import Array, as_tensor
from any2all_operators.block_diagonal import BlockDiagonal, Data, Measurement
from any2all_operators.builder import FileOperatorBuilder, Measured, OperatorBuilder
from any2all_operators.check import check_operator
from any2all_operators.conjugate_gradient import conjugate_gradient
from any2all_operators.errors import UserError, valid_names
from any2all_operators.field_of_view import FieldOfView
from any2all_operators.identity import Identity, Zero
from any2all_operators.masks import equispaced_mask, partial_fourier, random_mask
from any2all_operators.operator import Operator
from any2all_operators.sense import SenseFourier
from any2all_operators.unknown_phase import UnknownPhase

__version__ = "0.1.0"

__all__ = [
    "Around",
    "Array",
    "BlockDiagonal",
    "Data",
    "FieldOfView",
    "FileOperatorBuilder",
    "Identity",
    "Measured",
    "Measurement",
    "Operator",
    "OperatorBuilder",
    "SenseFourier",
    "UnknownPhase",
    "UserError",
    "Zero",
    "as_tensor",
    "check_operator",
    "conjugate_gradient",
    "equispaced_mask",
    "partial_fourier",
    "random_mask",
    "valid_names",
]
