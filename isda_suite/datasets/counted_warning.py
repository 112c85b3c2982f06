"""Warnings that come once for each power of ten, with the count."""

from mmengine.logging import print_log


class CountedWarning:
    """Warn at the 1st, 10th, 100th … occurrence of something harmless but not expected.

    Each data loading process counts what it has met itself.
    """

    def __init__(self) -> None:
        self.count = 0

    def note(self, text: str) -> None:
        """Count an occurrence.

        Args:
            text: Where it was found and what happens with it.
        """
        self.count += 1
        if str(self.count).strip('0') != '1':
            return
        so_far = '; more are only counted' if self.count == 1 else f'; {self.count} so far'
        print_log(f'{text}{so_far}', logger='current', level=30)
