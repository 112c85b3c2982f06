"""Are two runs of a model equal: outputs of a runtime against those of PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from isda_suite.engine.errors import ConfigError

Array = NDArray[Any]
# Largest difference that counts as equal; that of class maps and bits is a share of the places,
# that of logits is relative to the largest one, that of boxes is in pixels.
TOLERANCES = {
    'scores': 1e-4,
    'labels': 0.0,
    'boxes': 0.05,
    'masks': 1e-3,
    'mask_bits': 1e-3,
    'logits': 1e-4,
    'class_map': 1e-3,
    'cls_logits': 1e-4,
    'mask_logits': 1e-4,
}
_SAMPLED = 512  # values of a mask that decide which detection is which


@dataclass
class Difference:
    """One output of two runs.

    Attributes:
        name: The output, or ``mask_bits`` for masks of 0 and 1.
        largest: The largest difference, see ``TOLERANCES``.
        tolerance: What is allowed.
    """

    name: str
    largest: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether the difference is allowed; one that is no number is not."""
        return self.largest <= self.tolerance


def compare(expected: Mapping[str, Array], found: Mapping[str, Array]) -> list[Difference]:
    """Compare the outputs of two runs.

    Detections are brought into one order first: two with equal scores may stand either way.

    Args:
        expected: Outputs of PyTorch by name.
        found: The others.

    Returns:
        A difference for every output.
    """
    if 'scores' in expected:
        found = _in_one_order(expected, found)
    return [_difference(name, value, found[name]) for name, value in expected.items()]


def require_equal(differences: list[Difference], what: str) -> None:
    """Refuse differences that are too large.

    Raises:
        ConfigError: naming them.
    """
    wrong = [
        f'{one.name} differ by {one.largest:.2g}, allowed {one.tolerance:.2g}'
        for one in differences
        if not one.equal
    ]
    if wrong:
        raise ConfigError(
            f'{what} does not compute what PyTorch computes: {"; ".join(wrong)}. The file was not '
            'kept; --no-check keeps it as it is'
        )


def _difference(name: str, expected: Array, found: Array) -> Difference:
    if expected.shape != found.shape:
        return Difference(name, float('inf'), 0.0)
    if expected.size == 0:
        return Difference(name, 0.0, TOLERANCES[name])
    if expected.dtype == np.uint8 or name == 'labels':
        key = 'mask_bits' if name == 'masks' else name
        return Difference(key, float((expected != found).mean()), TOLERANCES[key])
    largest = float(np.abs(expected.astype(np.float64) - found).max())
    if name.endswith('logits'):
        largest /= max(1.0, float(np.abs(expected).max()))
    return Difference(name, largest, TOLERANCES[name])


def _in_one_order(expected: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Array]:
    """Permute the detections (axis 1) of every image to where they differ least."""
    ordered = {name: value.copy() for name, value in found.items()}
    for image in range(len(expected['scores'])):
        keys = [_keys(outputs, image) for outputs in (expected, found)]
        cost = np.abs(keys[0][:, None] - keys[1][None]).sum(-1)
        _, order = linear_sum_assignment(np.nan_to_num(cost, nan=1e9))
        for name, value in found.items():
            ordered[name][image] = value[image][order]
    return ordered


def _keys(outputs: Mapping[str, Array], image: int) -> Array:
    """Describe every detection by some numbers: (N, numbers)."""
    parts = []
    for name, value in outputs.items():
        rows = value[image].reshape(len(value[image]), -1).astype(np.float32)
        step = max(1, rows.shape[1] // _SAMPLED)
        parts.append(rows[:, ::step] * (1000 if name == 'labels' else 1))
    return np.concatenate(parts, 1)
