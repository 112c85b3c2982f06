"""What stands beside the numbers in an exported file: how to feed it and how to read it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isda_suite import __version__
from isda_suite.engine.errors import ConfigError

FORMAT = 1
TASKS = {
    'image_masks': 'instance',
    'box_masks': 'instance',
    'class_map': 'semantic',
    'clip': 'video',
}


def describe(
    form: Any,
    inputs: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int | str]],
    model: Any,
) -> dict[str, Any]:
    """Describe an exported model.

    Args:
        form: The exported form.
        inputs: Example inputs by name.
        shapes: Shape of every input; free sides are names.
        model: The model, which may be a wrapper around that of the form, with ``cfg`` and
            ``dataset_meta`` if it has them.

    Returns:
        Plain values, for :func:`json.dumps`.
    """
    import torch

    config = getattr(model, 'cfg', None)
    meta = getattr(model, 'dataset_meta', None) or {}
    return {
        'format': FORMAT,
        'isda_suite': __version__,
        'torch': torch.__version__,
        'config': Path(getattr(config, 'filename', None) or 'none').stem,
        'model': type(form.model).__name__,
        'task': TASKS[form.results],
        'results': form.results,
        'classes': list(meta.get('classes') or ()),
        'inputs': {
            name: {'shape': list(shapes[name]), 'dtype': str(value.dtype).removeprefix('torch.')}
            for name, value in inputs.items()
        },
        'outputs': list(form.outputs),
        'channels': 'RGB, 0 to 255',
        **form.image_input.describe(),
        'pad_divisor': form.image_input.divisor,
        'side_multiple': form.stride,
        'least_side': form.least_side,
        'resize': _resize(config),
        **form.describe(),
    }


def _resize(config: Any) -> dict[str, Any]:
    """Find out how the test pipeline of a configuration resizes images."""
    if config is None or not config.get('test_dataloader'):
        return {'how': 'none'}
    for step in _steps(config.test_dataloader.dataset.get('pipeline') or ()):
        kind = str(step.get('type')).rpartition('.')[2]
        scale = step.get('scale')
        if kind == 'ResizeShortSide':
            return {'how': 'short_side', 'scale': scale, 'by': step.get('backend', 'pillow')}
        if kind == 'Resize' and scale is not None:
            how = 'keep_ratio' if step.get('keep_ratio') else 'exact'
            return {'how': how, 'scale': list(scale), 'by': 'opencv'}
    return {'how': 'none'}


def _steps(pipeline: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """List the steps of a pipeline, those inside of others too."""
    return [one for step in pipeline for one in (step, *_steps(step.get('transforms') or ()))]


def as_properties(description: Mapping[str, Any]) -> dict[str, str]:
    """Turn a description into texts by name, as the header of an ONNX file holds them."""
    return {name: json.dumps(value) for name, value in description.items()}


def from_properties(properties: Mapping[str, str], file: str) -> dict[str, Any]:
    """Turn texts of :func:`as_properties` back.

    Raises:
        ConfigError: if they are not those of a file of the suite.
    """
    if 'isda_suite' not in properties or 'results' not in properties:
        raise ConfigError(
            f'{file}: expected a model that `isda export` wrote, its header says nothing of it'
        )
    found = {}
    for name, text in properties.items():
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text  # what other programs have added
    if found.get('format') != FORMAT:
        raise ConfigError(
            f'{file}: expected a description of format {FORMAT}, got {found.get("format")}; '
            'export the model again'
        )
    return found
