"""Virtual people: T1, FLAIR, T2star, CT and PET of persons who do not exist.

Where their numbers come from is in ``docs/virtual-people.md``.
"""

from any2all_operators import UserError

try:
    from any2all_data.virtual.person import Person, virtual_person
except ModuleNotFoundError as error:
    if error.name != "scipy":  # comes with nilearn
        raise
    raise UserError(
        "virtual people need nilearn; run pip install 'any2all-data[virtual]'"
    ) from None
from any2all_data.virtual.tissues import LESIONS, TISSUES

__all__ = ["LESIONS", "TISSUES", "Person", "virtual_person"]
