"""Read a json file piece by piece: its text is never in memory as a whole.

A data set's annotations are one object with a few long lists. Each element of such a list is
decoded by itself and handed to a function that says what is kept of it.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

_WINDOW = 1 << 22  # bytes
_NO_SPACE = re.compile(r'[^ \t\n\r]')
#: What may follow the "1" of "1e+5" before it is seen to go on.
_NUMBER_TAIL = len('e+')


def load_json(
    path: str | Path, keep: Mapping[str, Callable[[Any], Any]], window: int = _WINDOW
) -> Any:
    """Read a json file as ``json.loads`` does, but strict about keys that stand twice.

    Args:
        path: The file; UTF-8, UTF-16 or UTF-32.
        keep: Key of a list in the outermost object -> what is kept of an element of that list.
        window: Bytes to read at a time; an element may be longer.

    Returns:
        What the file holds.

    Raises:
        ValueError: if the file is no json, with line and column of the fault, or if a key of the
            outermost object stands twice.
    """
    with open(path, 'rb') as file:
        text = _Text(file, window)
        content = _read_object(text, keep) if text.peek() == '{' else text.take_value()
        if text.peek():
            text.fail('Extra data')
    return content


def _read_object(text: '_Text', keep: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for _ in text.members('{', '}'):
        if text.peek() != '"':
            text.fail('Expecting property name enclosed in double quotes')
        key = text.take_value()
        if key in content:
            text.fail(f'Key {key!r} stands twice')
        text.take(':')
        if key in keep and text.peek() == '[':
            content[key] = [keep[key](text.take_value()) for _ in text.members('[', ']')]
        else:
            content[key] = text.take_value()
    return content


class _Text:
    """The text of a file, of which a window is in memory.

    Args:
        file: The file, at its start.
        window: Bytes to read at a time.
    """

    def __init__(self, file: BinaryIO, window: int) -> None:
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        self._file = file
        self._window = window
        self._to_text = codecs.getincrementaldecoder(encoding)('surrogatepass')  # as json.loads
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._position, self._ended = '', 0, False
        # Of the window's start; lines count from 1, characters from 0.
        self._line, self._line_start, self._start = 1, 0, 0

    def peek(self) -> str:
        """Return the next character that is no white space, '' at the end."""
        while True:
            match = _NO_SPACE.search(self._text, self._position)
            if match:
                self._position = match.start()
                return match.group()
            self._position = len(self._text)
            if not self._read_on():
                return ''

    def take(self, *wanted: str) -> str:
        """Take one of the wanted characters."""
        found = self.peek()
        if found not in wanted:
            self.fail(f'Expecting {" or ".join(map(repr, wanted))} delimiter')
        self._position += 1
        return found

    def take_value(self) -> Any:
        """Take one value of any kind, reading on until it is whole."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not self._read_on():
                    self._position = error.pos
                    self.fail(error.msg)
            else:
                if end + _NUMBER_TAIL < len(self._text) or not self._read_on():
                    self._position = end
                    return value

    def members(self, opening: str, closing: str) -> Iterator[None]:
        """Take a list or an object; stop before every member, which the caller takes."""
        self.take(opening)
        if self.peek() == closing:
            self.take(closing)
            return
        while True:
            yield
            if self.take(',', closing) == closing:
                return

    def fail(self, message: str) -> NoReturn:
        """Raise an error with the place that has been reached."""
        self._forget()
        column = self._start - self._line_start + 1
        raise ValueError(f'{message}: line {self._line} column {column} (char {self._start})')

    def _read_on(self) -> bool:
        """Read a window more; return whether there was any."""
        # Twice the rest at least: a long element is not decoded anew for every window.
        size = max(self._window, len(self._text) - self._position)
        piece = ''
        while not piece and not self._ended:
            data = self._file.read(size)
            self._ended = not data
            try:
                piece = self._to_text.decode(data, final=self._ended)
            except UnicodeDecodeError as error:
                place = self._file.tell() - len(error.object) + error.start
                raise ValueError(f'{error.reason} at byte {place}') from error
        if piece:
            self._forget()
            self._text += piece
        return bool(piece)

    def _forget(self) -> None:
        """Drop the text before the position."""
        lines = self._text.count('\n', 0, self._position)
        if lines:
            self._line += lines
            self._line_start = self._start + self._text.rfind('\n', 0, self._position) + 1
        self._start += self._position
        self._text, self._position = self._text[self._position :], 0
