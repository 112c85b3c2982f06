"""What does ``torch.compile`` make of a model: one graph or several, and the same numbers?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from isda_suite.layers.export_form import find_export_form

from .parity import Difference, compare


def graph_breaks(model: nn.Module, size_hw: tuple[int, int], backend: str = 'eager') -> list[str]:
    """List why ``torch.compile`` cannot take a model's exported form as one graph.

    Args:
        model: The model.
        size_hw: Height and width of the input.
        backend: Of ``torch.compile``.

    Returns:
        The reason of the first break; nothing if there is one graph, whose results are then those
        of the model.
    """
    form = find_export_form(model).eval()
    inputs = form.example_inputs(size_hw)
    with _compiler():
        try:
            torch.compile(form, fullgraph=True, backend=backend)(**inputs)
        except torch._dynamo.exc.Unsupported as error:
            return [_first_line(str(error))]
    return []


def compiled_differences(
    model: nn.Module, size_hw: tuple[int, int], backend: str = 'inductor'
) -> list[Difference]:
    """Compile a model's exported form as one graph, run it, and compare it with PyTorch.

    Args:
        model: The model.
        size_hw: Height and width of the input.
        backend: Of ``torch.compile``; ``'inductor'`` needs a C++ compiler on a CPU.

    Returns:
        The differences of every output, see :func:`.parity.compare`.

    Raises:
        torch._dynamo.exc.Unsupported: if it cannot be one graph.
    """
    form = find_export_form(model).eval()
    inputs = form.example_inputs(size_hw, seed=1)
    with _compiler():
        expected = form(**inputs)
        found = torch.compile(form, fullgraph=True, backend=backend)(**inputs)
    first, second = (
        {name: np.asarray(value) for name, value in zip(form.outputs, values, strict=True)}
        for values in (expected, found)
    )
    return compare(first, second)


@dataclass
class Breaks:
    """What ``torch.compile`` makes of a function.

    Attributes:
        graphs: Into how many graphs it falls; 0 if the compiler gives up.
        operations: How many operations the graphs hold.
        reasons: Why it does not go on in one graph, and where; each once.
    """

    graphs: int
    operations: int
    reasons: list[str]


def breaks_of(run: Callable[[], Any]) -> Breaks:
    """Find out where ``torch.compile`` breaks a function, such as a model's own prediction.

    Unlike an exported form, ``model.predict`` makes structures and lengths that depend on the
    content, and brings masks to the size of the picture.

    Args:
        run: Calls the model with inputs that it holds; its own errors are not caught.
    """
    with torch.no_grad():
        run()
    with _compiler(open_lengths=False):
        try:
            found = torch._dynamo.explain(run)()
        except Exception as error:  # a failure of the compiler itself is a finding
            return Breaks(0, 0, [f'{type(error).__name__}: {_first_line(str(error))}'])
    reasons = (f'{_first_line(one.reason)} ({_place(one)})' for one in found.break_reasons)
    return Breaks(found.graph_count, found.op_count, list(dict.fromkeys(reasons)))


def _place(reason: Any) -> str:
    """Name the innermost line of a break: package, file and function."""
    if not reason.user_stack:
        return 'unknown'
    frame = reason.user_stack[-1]
    path = Path(frame.filename)
    name = frame.name.removeprefix('torch_dynamo_resume_in_')
    return f'{"/".join(path.parts[-3:])}:{frame.lineno} {name}'


@contextmanager
def _compiler(open_lengths: bool = True) -> Iterator[None]:
    """Compile anew, without gradients.

    Args:
        open_lengths: Let lengths that depend on the content into a graph, as that of what
            suppression keeps; PyTorch does not unless it is told.
    """
    settings: dict[str, Any] = dict(capture_dynamic_output_shape_ops=open_lengths)
    torch._dynamo.reset()
    try:
        with torch.no_grad(), torch._dynamo.config.patch(**settings):
            yield
    finally:
        torch._dynamo.reset()


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
