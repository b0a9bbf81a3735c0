"""Virtual people: simulated T1, FLAIR, T2star, CT and PET of persons who do not exist.

``docs/virtual-people.md`` gives the sources of the numbers.
"""

from any2all_virtual.person import Person, virtual_person
from any2all_virtual.tissues import LESIONS, TISSUES

__version__ = "0.1.0"

__all__ = ["LESIONS", "TISSUES", "Person", "virtual_person"]
