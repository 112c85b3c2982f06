"""An annotation file: one json object with lists of objects, whose values may be anything."""

import gc
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DataError
from .json_stream import load_json

#: OpenCV reads no longer side of an image.
_MAX_SIDE = 2**20
Json = dict[str, Any]
Keep = Callable[[Json], Any]


@contextmanager
def without_gc() -> Iterator[None]:
    """Pause the garbage collector while millions of small objects are made.

    It would search them over and over and find nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_annotation_file(
    path: str | Path, kind: str, lists: Sequence[str], keep: Mapping[str, Keep] | None = None
) -> Json:
    """Read an annotation file.

    Args:
        path: The file.
        kind: Name of the format, for messages.
        lists: Keys of the lists that must be there; ``annotations`` may be absent, for test sets.
        keep: Key of a list of the file -> what is kept of an element of it. With such a function
            the file is read piece by piece, and the list never stands in memory as a whole.

    Returns:
        The content of the file; every element of its lists is an object.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: if it is not a json of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'no annotation file {path} (seen from {Path.cwd()}): check data_root and ann_file'
        )
    functions = {key: _of_objects(path, key, function) for key, function in (keep or {}).items()}
    try:
        with without_gc():
            # Where all of it is kept, the text is what little there is to save.
            content = load_json(path, functions) if keep else json.loads(path.read_bytes())
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f'{path} is not a whole json file: {error}') from error
    _check_form(content, path, kind, lists, functions)
    return dict(content)


def usable_id(value: Any) -> int | float | str | None:
    """Return an id as it is, ``None`` for what no id can be."""
    return value if isinstance(value, int | float | str) else None


def is_size(value: Any) -> bool:
    """Say whether a value can be a height or a width in pixels."""
    return isinstance(value, int) and 0 < value <= _MAX_SIDE


def _of_objects(path: Path, key: str, keep: Keep) -> Keep:
    count = itertools.count()

    def keep_object(element: Any) -> Any:
        _require_object(path, key, next(count), element)
        return keep(element)

    return keep_object


def _require_object(path: Path, key: str, index: int, element: Any) -> None:
    if not isinstance(element, dict):
        raise DataError(f'{path}: {key}[{index}] is no object, but {str(element)[:40]!r}')


def _check_form(
    content: Any, path: Path, kind: str, lists: Sequence[str], seen: Mapping[str, Keep]
) -> None:
    for key in lists:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            names = ', '.join(f'"{name}"' for name in (*lists, 'annotations'))
            raise DataError(
                f'{path}: expected the {kind} format, an object with the lists {names}, but '
                f'"{key}" is missing or no list'
            )
    if content.get('annotations') is None:
        content.pop('annotations', None)  # null is as good as absent
    elif not isinstance(content['annotations'], list):
        raise DataError(f'{path}: "annotations" is no list')
    for key in {*lists, 'annotations'} - set(seen):
        for index, element in enumerate(content.get(key, ())):
            _require_object(path, key, index, element)
