"""Second names of tensors, for checkpoints of code that saves shared modules twice."""

import re
from collections.abc import Mapping

from torch import Tensor

from .renaming import NameTable


def with_aliases(state: Mapping[str, Tensor], table: NameTable) -> dict[str, Tensor]:
    """Add the second names that a style gives to some of its entries.

    Args:
        state: Entries, in the names of the style.
        table: The style.

    Returns:
        The entries and, under their second names, the same tensors.
    """
    result = dict(state)
    for name, tensor in state.items():
        for rule in table.aliases:
            found = re.fullmatch(rule.pattern, name)
            if found and rule.target:
                result[found.expand(rule.target)] = tensor
    return result
