"""What a training pass leaves behind, and how it is watched without changing a detector."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class QueryRecord:
    """What one image left behind in a training pass.

    Shapes: N positive queries, Q numbers a query, C channels, (h, w) the pixel map.

    Attributes:
        queries: (N, Q), with gradient.
        gt_inds: (N,) int64, the instance each query was assigned to: an index into the image's
            ``gt_instances``.
        pixels: (C, h, w), with gradient; some heads need several maps, finest first. ``()``, no
            map, where a pass was run for its queries alone.
        context: What else the adapter wants to know again.
    """

    queries: Tensor
    gt_inds: Tensor
    pixels: Tensor | tuple[Tensor, ...]
    context: dict[str, Any] = field(default_factory=dict)


@dataclass
class Call:
    """One call of a watched method."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


class Taps:
    """Watch calls inside an unmodified module; everything is undone at the end.

    Nothing is put on a class, so other instances are not touched, and the watched calls return
    what they always do; those that are replaced are the exception.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()

    def __enter__(self) -> 'Taps':
        """Start; taps are set inside the block."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Take everything off, also after an exception."""
        self._undo.close()

    def outputs_of(self, module: nn.Module) -> list[Any]:
        """Collect what a module returns, call after call."""
        found: list[Any] = []
        handle = module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
        self._undo.callback(handle.remove)
        return found

    def calls_of(self, owner: Any, name: str) -> list['Call']:
        """Collect arguments and results of a method of one object, call after call."""
        found: list[Call] = []
        method: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            found.append(Call(args, kwargs, result))
            return result

        self.replace(owner, name, watched)
        return found

    def replace(self, owner: Any, name: str, function: Callable[..., Any]) -> None:
        """Let another function stand for a method of one object.

        Args:
            owner: The object.
            name: Of its method; ``'forward'`` for what a module computes.
            function: Called without the object.
        """
        own = vars(owner)
        before = own.get(name)
        own[name] = function
        self._undo.callback(lambda: own.pop(name) if before is None else own.update({name: before}))


@contextmanager
def recording(
    tap: Callable[[Taps], Callable[[], list[QueryRecord]]],
) -> Iterator[list[QueryRecord]]:
    """Turn "set the taps, then read them" into the context that ``record`` returns.

    Args:
        tap: Sets the taps and returns the function that makes the records of what they saw.
    """
    records: list[QueryRecord] = []
    with Taps() as taps:
        read = tap(taps)
        yield records
        records.extend(read())


def runs_methods_of(owner: object, kind: type, *names: str) -> bool:
    """Tell whether an object runs these methods as a class has them, without one of its own.

    Whoever leaves out a part of a method knows its code; that of a sub-class nobody knows.

    Args:
        owner: The object.
        kind: The class whose code is known.
        *names: Of methods.
    """
    return all(getattr(type(owner), name, None) is getattr(kind, name) for name in names)


def finest(pixels: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the map (C, h, w), the first of several."""
    return pixels if isinstance(pixels, Tensor) else pixels[0]


def detached(pixels: Tensor | tuple[Tensor, ...]) -> Any:
    """Return the map, or the maps, without their graph."""
    if isinstance(pixels, Tensor):
        return pixels.detach()
    return tuple(level.detach() for level in pixels)
