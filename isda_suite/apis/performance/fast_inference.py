"""Make the inference of a trained model faster, in steps that keep its numbers or nearly so."""

from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from isda_suite.engine.errors import ConfigError

_HALF_TYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}
# What a model is entered by: mmengine's models by the first, segmentors by the others too.
_ENTRIES = ('forward', 'encode_decode', 'class_logits')


@dataclass(frozen=True)
class InferenceSteps:
    """What :func:`optimise_for_inference` does.

    Args:
        fused: Put batch normalisations into the convolutions before them: the same numbers but for
            rounding, a pass over memory less per convolution. Wrong for networks that normalise
            before they convolve.
        channels_last: Keep the channels of a pixel together: the same numbers but for rounding.
        amp_dtype: ``float16`` or ``bfloat16`` for automatic mixed precision, ``auto`` for the
            first on a GPU and the second on a CPU, ``None`` for the precision of the weights.
        compiled: Use ``torch.compile``; every new size of input compiles anew.

    Raises:
        ConfigError: if ``amp_dtype`` is unknown.
    """

    fused: bool = True
    channels_last: bool = True
    amp_dtype: str | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.amp_dtype not in (None, 'auto', *_HALF_TYPES):
            raise ConfigError(
                f'amp_dtype must be auto, float16 or bfloat16, got {self.amp_dtype!r}'
            )

    def amp_name(self, device: torch.device) -> str | None:
        """Return the name of the half type on a device, ``None`` for none."""
        if self.amp_dtype == 'auto':
            return 'float16' if device.type == 'cuda' else 'bfloat16'
        return self.amp_dtype


def optimise_for_inference(model: nn.Module, steps: InferenceSteps | None = None) -> nn.Module:
    """Make the inference of a model faster.

    Fused and channels last, an ISDNet differs by rounding alone. In bfloat16 its pyramid still
    works in float32; what its label maps then differ in is measured in ``benchmarks/isdnet.py``.

    Args:
        model: A model of mmengine in evaluation mode, on its device. It is changed in place; train
            it and save it before.
        steps: What to do; ``None`` fuses and sets channels last.

    Returns:
        ``model``.

    Raises:
        ConfigError: if the model is in training mode.
    """
    steps = steps or InferenceSteps()
    if model.training:
        raise ConfigError(
            f'{type(model).__name__} is in training mode: call model.eval(), or load it with '
            'isda_suite.apis.model.load_model'
        )
    if steps.fused:
        with torch.no_grad():
            fuse_conv_bn(model)
        model.requires_grad_(False)
    changed: Any = model
    if steps.channels_last:
        _put_channels_last(model)
    if steps.compiled:
        name = 'class_logits' if hasattr(model, 'class_logits') else 'forward'
        setattr(changed, name, torch.compile(getattr(changed, name)))
    device = next(model.parameters()).device
    half = steps.amp_name(device)
    if half is not None:
        for name in [name for name in _ENTRIES if hasattr(model, name)]:
            # One for each: they call one another, and a context that is entered twice stays on.
            precision = torch.autocast(device.type, _HALF_TYPES[half])
            setattr(changed, name, precision(getattr(changed, name)))
    return model


def _put_channels_last(model: nn.Module) -> None:
    """Store the weights of convolutions by pixel; those over time have a format of their own."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() in formats:
            tensor.data = tensor.data.contiguous(memory_format=formats[tensor.dim()])
