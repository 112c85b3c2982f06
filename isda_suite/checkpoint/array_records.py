"""Rebuild numpy arrays from pickles without numpy's own functions for that.

Those believe the state they are given: a file with a wrong one crashes the interpreter. The records
here take the same calls and states, compare sizes, and make arrays of numbers and texts only.
"""

import argparse
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from numpy.typing import NDArray

_NAME = re.compile(r'[?biufcSU]\d{0,4}')
_ORDERS = ('<', '>', '=', '|')


class DtypeRecord:
    """Stands for a ``numpy.dtype`` while a pickle is read.

    Args:
        name: Kind and bytes, such as ``'f4'``.
        align: Not used.
        copy: Not used.

    Raises:
        ValueError: for anything but numbers, truth values and texts.
    """

    def __init__(self, name: str, align: Any = False, copy: Any = False) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f'arrays of {str(name)[:40]!r} are not read')
        self.name = name
        self.order: Any = '='

    def __setstate__(self, state: Any) -> None:
        """Take the byte order out of numpy's state of a data type."""
        if state[1] not in _ORDERS:
            raise ValueError(f'no byte order: {str(state[1])[:40]!r}')
        self.order = state[1]

    def finish(self) -> np.dtype[Any]:
        """Return the data type."""
        return np.dtype(self.name).newbyteorder(self.order)


class ArrayRecord:
    """Stands for a ``numpy.ndarray`` until its state is read."""

    array: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """Take numpy's state of an array: version, shape, data type, order, bytes."""
        _, shape, dtype, in_columns, data = state
        self.array = from_buffer(data, dtype, shape, 'F' if in_columns else 'C')

    def finish(self) -> NDArray[Any]:
        """Return the array.

        Raises:
            ValueError: if the file ended before its content.
        """
        if self.array is None:
            raise ValueError('an array without content')
        return self.array


def reconstruct(kind: Any, shape: Any, typecode: Any) -> ArrayRecord:
    """Stand in for numpy's ``_reconstruct``, which makes an array that gets its state later."""
    return ArrayRecord()


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Stand in for numpy's ``_frombuffer``.

    Raises:
        ValueError: if the bytes are more or fewer than the shape takes.
    """
    if isinstance(data, str):  # pickles of Python 2
        data = data.encode('latin1')
    sides = [int(side) for side in shape]
    kind = dtype.finish()
    if min(sides, default=0) < 0 or math.prod(sides) * kind.itemsize != len(data):
        raise ValueError(f'an array of shape {sides[:8]} and {kind} with {len(data)} bytes')
    return np.frombuffer(data, kind).reshape(sides, order=order).copy(order=order)


def scalar(dtype: Any, data: Any) -> Any:
    """Stand in for numpy's ``scalar``."""
    return from_buffer(data, dtype, (1,), 'C')[0]


#: Module and name in pickles of numpy 1 and 2 -> what is called in their place.
STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ('numpy', 'ndarray'): ArrayRecord,
    ('numpy', 'dtype'): DtypeRecord,
    **{
        (f'numpy.{core}.{module}', name): function
        for core in ('core', '_core')
        for module, name, function in (
            ('multiarray', '_reconstruct', reconstruct),
            ('multiarray', 'scalar', scalar),
            ('numeric', '_frombuffer', from_buffer),
        )
    },
}


def finished(content: Any, seen: dict[int, Any] | None = None) -> Any:
    """Return what was read with the arrays in the place of their records.

    Args:
        content: Nested dicts, lists, tuples, log buffers and arguments; changed in place where
            possible.
        seen: What was finished already, by id; objects in it stay alive.

    Raises:
        ValueError: if an array has no content.
    """
    seen = {} if seen is None else seen
    if isinstance(content, ArrayRecord | DtypeRecord):
        return content.finish()
    if id(content) in seen:
        return content
    if type(content) is tuple:
        return tuple([finished(value, seen) for value in content])
    if isinstance(content, HistoryBuffer | argparse.Namespace):
        seen[id(content)] = content
        finished(vars(content), seen)
    elif isinstance(content, dict):
        seen[id(content)] = content
        for key, value in content.items():
            content[key] = finished(value, seen)
    elif isinstance(content, list):
        seen[id(content)] = content
        content[:] = [finished(value, seen) for value in content]
    return content
