"""Check an annotation file once in a process, however often it is read.

Training checks a file before the model is built and reads it afterwards; the second check would
find the same, and print it again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from .annotation_file import Json
from .coco_checks import Expectation
from .report import Report

Read = Callable[[str], Json]
Check = Callable[[Json, Expectation], Report]

#: What was asked of files that passed, and their time of change in ns.
_PASSED: set[tuple[Expectation, int]] = set()


def check_file(
    expected: Expectation, backend_args: Any, read: Read, check: Check
) -> tuple[Json, Report]:
    """Read and check an annotation file.

    Args:
        expected: What the data set wants of the file; names it.
        backend_args: How mmengine gets the file.
        read: Reads a local file.
        check: Checks what was read.

    Returns:
        What was read, and the report.
    """
    content, key = _read(expected, backend_args, read)
    report = check(content, expected)
    if not report.fatal:
        _PASSED.add(key)
    return content, report


def read_checked(expected: Expectation, backend_args: Any, read: Read, check: Check) -> Json:
    """Read an annotation file; check it and log the notes unless it has passed already.

    Args:
        expected: What the data set wants of the file; names it.
        backend_args: How mmengine gets the file.
        read: Reads a local file.
        check: Checks what was read.

    Raises:
        DataError: if the annotations cannot be used; lists everything that is wrong.
    """
    content, key = _read(expected, backend_args, read)
    if key not in _PASSED:
        report = check(content, expected)
        report.raise_if_fatal()
        if report.notes():
            print_log(f'annotations: {report.notes()}', 'current', level=30)
        _PASSED.add(key)
    return content


def _read(
    expected: Expectation, backend_args: Any, read: Read
) -> tuple[Json, tuple[Expectation, int]]:
    with get_local_path(expected.ann_file, backend_args=backend_args) as local_path:
        return read(local_path), (expected, Path(local_path).stat().st_mtime_ns)
