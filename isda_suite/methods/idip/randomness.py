"""Random numbers of images: each image has a stream of its own, which can be written down.

All draws are made on the CPU, so that a GPU gets the same numbers.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError

_WORD = 2**32


class ImageNoise:
    """The random numbers of one image, in the order in which IDIP draws them.

    Training: placeholders (or which targets are kept), the time, the noise. Inference: the start
    boxes; then for every step but the last the noise of the boxes kept and the new boxes.

    Args:
        *address: Integers that the whole stream follows from, e.g. a seed and the image's id.
            Without any the numbers come from torch's global generator.
    """

    def __init__(self, *address: int) -> None:
        self._generator: torch.Generator | None = None
        if address:
            words = [part % _WORD for part in address]
            seed = np.random.SeedSequence(words).generate_state(1, np.uint64)
            # An int before the shift: compilers know no shift of unsigned tensors.
            self._generator = torch.Generator().manual_seed(int(seed[0]) >> 1)

    def normal(self, count: int) -> Tensor:
        """Draw boxes (count, 4) of the standard normal distribution, float32; count may be 0."""
        return torch.randn(count, 4, generator=self._generator)

    def time(self, num_steps: int) -> int:
        """Draw a time, 0 to ``num_steps`` - 1."""
        return int(torch.randint(num_steps, (1,), generator=self._generator))

    def choice(self, total: int, count: int) -> Tensor:
        """Draw which ``count`` of ``total`` stay: (total,) bool."""
        kept = torch.zeros(total, dtype=torch.bool)
        kept[torch.randperm(total, generator=self._generator)[:count]] = True
        return kept


class RecordedNoise(ImageNoise):
    """Random numbers that are known beforehand, given out in their order.

    Args:
        normals: Arrays (n, 4) of :meth:`normal`.
        times: Numbers of :meth:`time`.
        choices: Arrays (total,) bool of :meth:`choice`.

    Raises:
        ModelConfigError: when more or other numbers are asked for than were recorded.
    """

    def __init__(
        self,
        normals: Iterable[Any] = (),
        times: Iterable[int] = (),
        choices: Iterable[Any] = (),
    ) -> None:
        super().__init__(0)
        self._normals = iter([torch.as_tensor(one, dtype=torch.float32) for one in normals])
        self._times = iter([int(one) for one in times])
        self._choices = iter([torch.as_tensor(one, dtype=torch.bool) for one in choices])

    def normal(self, count: int) -> Tensor:
        """Return the next array; it must have ``count`` rows."""
        found = _next(self._normals, 'noise')
        if tuple(found.shape) != (count, 4):
            raise ModelConfigError(
                f'recorded noise: expected an array of shape {(count, 4)}, got '
                f'{tuple(found.shape)}; it was recorded for another image or other options'
            )
        return found

    def time(self, num_steps: int) -> int:
        """Return the next time."""
        found: int = _next(self._times, 'times')
        return found

    def choice(self, total: int, count: int) -> Tensor:
        """Return the next choice; it must keep ``count`` of ``total``."""
        found = _next(self._choices, 'choices')
        if len(found) != total or int(found.sum()) != count:
            raise ModelConfigError(
                f'recorded choice: expected {count} of {total}, got {int(found.sum())} of '
                f'{len(found)}; it was recorded for another image or other options'
            )
        return found


class NoiseRecorder(ImageNoise):
    """Pass another stream on and write it down.

    Args:
        source: The stream.
    """

    def __init__(self, source: ImageNoise) -> None:
        super().__init__(0)
        self._source = source
        self.normals: list[Tensor] = []
        self.times: list[int] = []
        self.choices: list[Tensor] = []

    def normal(self, count: int) -> Tensor:
        """Draw from the source."""
        self.normals.append(self._source.normal(count))
        return self.normals[-1]

    def time(self, num_steps: int) -> int:
        """Draw from the source."""
        self.times.append(self._source.time(num_steps))
        return self.times[-1]

    def choice(self, total: int, count: int) -> Tensor:
        """Draw from the source."""
        self.choices.append(self._source.choice(total, count))
        return self.choices[-1]

    def replay(self) -> RecordedNoise:
        """Return a stream that gives the same numbers again."""
        return RecordedNoise(self.normals, self.times, self.choices)


def image_key(metainfo: dict[str, Any], otherwise: int = 0) -> int:
    """Turn the id of an image into an integer that is the same in every process.

    Args:
        metainfo: ``img_id`` (an integer or a text), else ``img_path``.
        otherwise: What counts for an image with neither.
    """
    name = metainfo.get('img_id', metainfo.get('img_path'))
    if name is None:
        return otherwise
    try:
        return int(name)
    except (TypeError, ValueError):
        return zlib.crc32(str(name).encode())


def draw_seed() -> int:
    """Draw the seed of a training step from torch's global generator."""
    return int(torch.randint(_WORD, (1,)))


def _next(values: Any, what: str) -> Any:
    try:
        return next(values)
    except StopIteration:
        raise ModelConfigError(
            f'recorded noise: the {what} are used up; they were recorded for another image or '
            'other options'
        ) from None
