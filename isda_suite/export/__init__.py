"""Models as files that run elsewhere: ONNX and ``torch.export``, written, checked and run.

``from isda_suite.export import OnnxModel`` needs numpy, OpenCV and onnxruntime alone, no PyTorch.
"""

import importlib
from typing import Any

_PUBLIC_NAMES = {
    'OnnxModel': 'isda_suite.export.runtime',
    'export_model': 'isda_suite.export.exporting',
    'graph_breaks': 'isda_suite.export.compiling',
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use, so that the runtime does not load PyTorch."""
    if name not in _PUBLIC_NAMES:
        raise AttributeError(
            f'module {__name__!r} has no attribute {name!r}; public names: '
            f'{", ".join(sorted(_PUBLIC_NAMES))}'
        )
    return getattr(importlib.import_module(_PUBLIC_NAMES[name]), name)
