"""Hold back what OpenCV prints when it tries something that may fail."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_SILENT = 0


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's own log; the caller says what went wrong."""
    level = cv2.setLogLevel(_SILENT)  # returns the old one
    try:
        yield
    finally:
        cv2.setLogLevel(level)
