"""Does ``torch.compile`` take a model in one graph?"""

from typing import Any

import torch
from torch import nn

from isda_suite.layers.export_form import find_export_form


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
    torch._dynamo.reset()
    # The length of what suppression keeps depends on the content; it stays inside of the graph.
    settings: dict[str, Any] = dict(capture_dynamic_output_shape_ops=True)
    with torch.no_grad(), torch._dynamo.config.patch(**settings):
        try:
            torch.compile(form, fullgraph=True, backend=backend)(**inputs)
        except torch._dynamo.exc.Unsupported as error:
            return [str(error).strip().splitlines()[0]]
        finally:
            torch._dynamo.reset()
    return []
