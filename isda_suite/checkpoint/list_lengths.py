"""Say when a checkpoint and a model differ in how many layers or stages they have."""

import re
from collections import defaultdict
from collections.abc import Iterable

_ITEM = re.compile(r'(.+?)\.(\d+)\.')


def explain_lengths(
    matched: Iterable[str], missing: Iterable[str], unexpected: Iterable[str]
) -> str:
    """Compare the lengths of numbered lists of modules.

    Args:
        matched: Names that both sides have, of any shape.
        missing: Names that only the model has.
        unexpected: Names that only the checkpoint has.

    Returns:
        A line for every list that both sides have with different lengths, e.g. ``dynamic_heads has
        6 entries in the checkpoint and 4 in the model``; an empty text where there is none.
    """
    both, ours, theirs = (_items(names) for names in (matched, missing, unexpected))
    lines = []
    for name in sorted(set(ours) ^ set(theirs)):
        shared = both.get(name, set())
        found, wanted = len(shared | theirs[name]), len(shared | ours[name])
        # A list of which single entries of a layer are absent is as long as before.
        if shared and found != wanted:
            lines.append(
                f'{name} has {found} entries in the checkpoint and {wanted} in the model: set the '
                'number of layers or stages in the config to fit the checkpoint'
            )
    return '\n'.join(lines)


def _items(names: Iterable[str]) -> defaultdict[str, set[str]]:
    """Map the outermost numbered list of every name to the numbers found in it."""
    items: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        found = _ITEM.match(name)
        if found:
            items[found[1]].add(found[2])
    return items
