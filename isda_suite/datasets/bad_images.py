"""What training does with images that cannot be read."""

from collections.abc import Callable
from typing import Any

from mmengine.logging import print_log

from .errors import DataError

CHOICES = ('stop', 'skip')
MAX_SHARE = 0.001
_SHOWN = 5


class BadImages:
    """Count the images that are skipped, and stop when there are too many.

    Args:
        choice: ``'stop'`` ends at the first one, ``'skip'`` takes another image instead.
        samples: What an index of the data set stands for, in messages.

    Raises:
        ValueError: for another choice.
    """

    def __init__(self, choice: str, samples: str = 'images') -> None:
        if choice not in CHOICES:
            raise ValueError(f'bad_images: expected one of {CHOICES}, got {choice!r}')
        self.choice = choice
        self.samples = samples
        self._faults: dict[int, str] = {}

    def load(self, load: Callable[[int], Any], index: int, total: int, test_mode: bool) -> Any:
        """Load a sample; in training a bad image is taken note of.

        Args:
            load: Gives the sample of an index.
            index: The index.
            total: Images of the data set.
            test_mode: Whether results are measured, so that no image may be left out.

        Returns:
            The sample; ``None`` asks for another one.

        Raises:
            DataError: as for :meth:`note`; in tests for the first bad image.
        """
        try:
            return load(index)
        except DataError as error:
            if test_mode:
                raise
            self.note(index, error, total)
            return None

    def note(self, index: int, error: DataError, total: int) -> None:
        """Take note of a bad image.

        Each worker process counts what it has met itself.

        Args:
            index: Its index in the data set.
            error: What is wrong with it.
            total: Images of the data set.

        Raises:
            DataError: the error itself, or one that lists the images when more than 0.1 % of them
                (and more than one) are bad.
        """
        if self.choice == 'stop':
            raise error
        if index not in self._faults and len(self._faults) < _SHOWN:
            print_log(f'skipped: {error}', logger='current', level=30)
        self._faults[index] = str(error)
        count = len(self._faults)
        if count > max(1, MAX_SHARE * total):
            shown = '; '.join(list(self._faults.values())[:_SHOWN])
            raise DataError(
                f'{count} of {total} {self.samples} cannot be read, more than {MAX_SHARE:.1%}: '
                f'{shown}. Repair or remove them (tools/check_dataset.py --images reads every file)'
            )
