"""Keep known, harmless messages of the libraries out of our tools' output.

Only the messages listed here disappear; whatever is not listed is shown as it would be without
this module. Meant for command line tools: a library that filters warnings on import would take
the choice from its users.
"""

import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

KNOWN_PRINTS = (
    # Optional data sets of the forks; they are absent in every installation from the index.
    r'Could not import OneDL(\. Skipping OneDL datasets\.)?',
    # Four lines about one lane detection model, printed while mmdet is imported.
    r'.*Line NMS is not compiled\. Most likely when installing the package cuda was not '
    r'available\.',
    r'This model cannot work without CUDA, therefore you need to recompile the package with CUDA '
    r'support\.',
    r'To make sure that the package is compiled with CUDA support use FORCE_CUDA=1 mim install .*',
)
"""Whole lines that the forks print while they are imported (colour codes aside)."""

KNOWN_WARNINGS = (
    (r'`torch\.jit\.(script|interface)` is deprecated', DeprecationWarning),
    (r'``MultiScaleDeformableAttention`` has been moved to', ImportWarning),
    (
        r'torch\.meshgrid: in an upcoming release, it will be required to pass the indexing',
        UserWarning,
    ),
    (r'__array__ implementation doesn.t accept a copy keyword', DeprecationWarning),
    (r'faster_coco_eval is not installed', UserWarning),
    # About a kernel of mmcv that ours stands in for; SOLQ has 48 channels a head.
    (r"You'd better set embed_dims in MultiScaleDeformAttention", UserWarning),
    # Advice of mmseg against what published recipes do (ISDNet's among them).
    (r'Default ``avg_non_ignore`` is False', UserWarning),
    (r'For binary segmentation, we suggest using', UserWarning),
)
"""Start of the message and category of Python warnings that nobody can act on."""

KNOWN_LOG_LINES = (
    r'"FileClient" will be deprecated in future',
    r'"HardDiskBackend" is the alias of "LocalBackend"',
    r'`save_param_scheduler` is True but `self\.param_schedulers` is None',
)
"""Start of lines that mmengine logs about itself or mmdet during training and evaluation."""

_COLOUR = re.compile(r'\x1b\[[0-9;]*m')
_PRINTS = re.compile('|'.join(f'(?:{pattern})' for pattern in KNOWN_PRINTS))
_LOG_LINES = re.compile('|'.join(f'(?:{pattern})' for pattern in KNOWN_LOG_LINES))
_FROZEN = re.compile(r'(?P<name>\S+) is skipped since its requires_grad=False')
_OPTION = re.compile(r'paramwise_options -- (?P<name>[^:]+):(?P<option>.+)')


def filter_known_warnings() -> None:
    """Ignore the Python warnings of ``KNOWN_WARNINGS`` from now on, in the whole process."""
    for message, category in KNOWN_WARNINGS:
        warnings.filterwarnings('ignore', message=message, category=category)


class KnownLineFilter(logging.Filter):
    """Drop known log lines and collapse the hundreds about single parameters into a few.

    While mmengine builds an optimizer with ``paramwise_cfg`` it logs a line for each parameter
    without gradient, and three for each one with options of its own. They are counted, and a line
    for each kind is logged before the next line about something else.

    Args:
        logger: The logger that gets the lines with the counts.

    Attributes:
        frozen_parameters: How many lines about frozen parameters came by.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.frozen_parameters = 0
        self._logger = logger
        self._frozen: list[str] = []
        self._options: dict[str, list[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether a log record is shown; lines with counts go out before it."""
        message = record.getMessage()
        frozen, option = _FROZEN.match(message), _OPTION.match(message)
        if frozen is not None:
            self.frozen_parameters += 1
            self._frozen.append(frozen['name'])
        elif option is not None:
            self._options.setdefault(option['name'], []).append(option['option'])
        else:
            for level, summary in self._take_summaries():
                self._logger.log(level, summary)
            return _LOG_LINES.match(message) is None
        return False

    def _take_summaries(self) -> list[tuple[int, str]]:
        frozen, options = self._frozen, self._options
        self._frozen, self._options = [], {}
        lines = []
        if frozen:
            what = 'frozen parameters (requires_grad=False) that stay out of the optimizer'
            lines.append((logging.WARNING, f'{what}: {_counted(frozen)}'))
        same: dict[str, list[str]] = {}
        for name, found in options.items():
            same.setdefault(', '.join(sorted(found)), []).append(name)
        for what, names in same.items():
            lines.append((logging.INFO, f'parameters with {what}: {_counted(names)}'))
        return lines


def _counted(names: list[str]) -> str:
    return f'{len(names)}, the first is {names[0]}'


def filter_known_log_lines(logger: logging.Logger) -> KnownLineFilter:
    """Put a ``KnownLineFilter`` on a logger, once.

    Args:
        logger: ``runner.logger``; mmengine's loggers are not found by name.

    Returns:
        The filter on the logger, also if it was there before.
    """
    for present in logger.filters:
        if isinstance(present, KnownLineFilter):
            return present
    known = KnownLineFilter(logger)
    logger.addFilter(known)
    return known


class _LineSieve(io.TextIOBase):
    """A stream that passes lines on to another one, but for the known ones."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._unfinished = ''

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split('\n')
        for line in lines:
            self._pass_on(line, '\n')
        return len(text)

    def finish(self) -> None:
        """Pass on what came after the last line break."""
        if self._unfinished:
            self._pass_on(self._unfinished, '')
            self._unfinished = ''

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def _pass_on(self, line: str, end: str) -> None:
        if _PRINTS.fullmatch(_COLOUR.sub('', line).strip()) is None:
            self._stream.write(line + end)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Import mmdet and mmseg without the lines and warnings they are known to give.

    Usage: ``with quiet_imports(): import mmdet.apis``.

    Yields:
        Nothing; other output passes through, also when the import fails.
    """
    sieves = _LineSieve(sys.stdout), _LineSieve(sys.stderr)
    with warnings.catch_warnings(), redirect_stdout(sieves[0]), redirect_stderr(sieves[1]):
        filter_known_warnings()
        try:
            yield
        finally:
            for sieve in sieves:
                sieve.finish()
