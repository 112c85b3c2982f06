"""Deformable convolution, with and without modulation, on the operator of ``isda_suite.ops``.

mmcv hands results and gradients in as tensors to be filled, and the geometry as keywords.
B images, C input channels, O output channels, K = kernel height * width, G = deformable groups.
"""

from typing import Any

import torch
from torch import Tensor

_Geometry = tuple[list[int], list[int], list[int], int, int]
_BACKWARD_ORDER = ('input', 'offset', 'mask', 'weight', 'bias')


def _plain(options: dict[str, int]) -> _Geometry:
    """Read the keywords of the operators without modulation."""
    return _geometry(options, ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW'))


def _modulated(options: dict[str, int]) -> _Geometry:
    """Read the keywords of the operators with modulation."""
    names = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w')
    return _geometry(options, names)


def _geometry(options: dict[str, int], names: tuple[str, ...]) -> _Geometry:
    """Stride, padding and dilation as (y, x), groups and deformable groups."""
    numbers = [int(options[name]) for name in names]
    groups = int(options['group']), int(options['deformable_group'])
    return numbers[:2], numbers[2:4], numbers[4:], *groups


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **options: int,
) -> None:
    """Write the convolution at shifted sampling points into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (O, C / groups, kernel height, kernel width).
        offset: (B, 2 * G * K, H_out, W_out), (y, x) pairs in pixels.
        output: (B, O, H_out, W_out); receives the result.
        columns: Scratch, not used.
        ones: Scratch, not used.
        options: kW kH dW dH padW padH dilationW dilationH group deformable_group im2col_step;
            d means stride.

    Source: Deformable Convolutional Networks (arXiv:1703.06211), section 2.1.
    """
    output.copy_(_convolve(input, offset, None, weight, None, _plain(options)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: int,
) -> None:
    """Write the gradients of input and offset.

    Args:
        input: As in the forward pass.
        offset: As in the forward pass.
        grad_output: (B, O, H_out, W_out).
        grad_input: Receives the gradient of ``input``.
        grad_offset: Receives the gradient of ``offset``.
        weight: As in the forward pass.
        columns: Scratch, not used.
        options: As in the forward pass.
    """
    operands = (grad_output, input, offset, None, weight)
    grads = _gradients(*operands, _plain(options), 'input', 'offset')
    grad_input.copy_(grads['input'])
    grad_offset.copy_(grads['offset'])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    **options: int,
) -> None:
    """Add the gradient of the weight, times ``scale``, to ``grad_weight``.

    Args:
        input: As in the forward pass.
        offset: As in the forward pass.
        grad_output: (B, O, H_out, W_out).
        grad_weight: (O, C / groups, kernel height, kernel width); is added to.
        columns: Scratch, not used.
        ones: Scratch, not used.
        options: As in the forward pass, and ``scale``.
    """
    # The gradient of the weight does not depend on the weight: its shape is enough.
    operands = (grad_output, input, offset, None, grad_weight.to(input.dtype))
    gradient = _gradients(*operands, _plain(options), 'weight')['weight']
    grad_weight.add_(gradient.to(grad_weight.dtype), alpha=options.get('scale', 1))


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **options: int,
) -> None:
    """Write the convolution at shifted and weighted sampling points into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (O, C / groups, kernel height, kernel width).
        bias: (O,), read if ``with_bias``.
        ones: Scratch, not used.
        offset: (B, 2 * G * K, H_out, W_out), (y, x) pairs in pixels.
        mask: (B, G * K, H_out, W_out) factors.
        output: (B, O, H_out, W_out); receives the result.
        columns: Scratch, not used.
        options: kernel_h kernel_w stride_h stride_w pad_h pad_w dilation_h dilation_w group
            deformable_group with_bias.

    Source: Deformable ConvNets v2 (arXiv:1811.11168), section 3.2.
    """
    used_bias = bias if options['with_bias'] else None
    output.copy_(_convolve(input, offset, mask, weight, used_bias, _modulated(options)))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **options: int,
) -> None:
    """Write the gradients of all five inputs; each ``grad_`` tensor receives its own.

    Args:
        input: As in the forward pass.
        weight: As in the forward pass.
        bias: As in the forward pass.
        ones: Scratch, not used.
        offset: As in the forward pass.
        mask: As in the forward pass.
        columns: Scratch, not used.
        grad_input: Like ``input``.
        grad_weight: Like ``weight``.
        grad_bias: Like ``bias``, left alone without a bias.
        grad_offset: Like ``offset``.
        grad_mask: Like ``mask``.
        grad_output: (B, O, H_out, W_out).
        options: As in the forward pass.
    """
    targets = {
        'input': grad_input,
        'weight': grad_weight,
        'offset': grad_offset,
        'mask': grad_mask,
        **({'bias': grad_bias} if options['with_bias'] else {}),
    }
    operands = (grad_output, input, offset, mask, weight)
    for name, gradient in _gradients(*operands, _modulated(options), *targets).items():
        targets[name].copy_(gradient)


def _operators() -> Any:
    import isda_suite.ops  # noqa: F401  registers them; not before they are needed

    return torch.ops.isda_suite


def _convolve(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    geometry: _Geometry,
) -> Tensor:
    result: Tensor = _operators().deform_conv2d(input, offset, mask, weight, bias, *geometry)
    return result


def _gradients(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    geometry: _Geometry,
    *names: str,
) -> dict[str, Tensor]:
    """Gradients of the operands named, by name."""
    asked = [name in names for name in _BACKWARD_ORDER]
    grad_output = grad_output.to(input.dtype)
    operands = (grad_output, input, offset, mask, weight)
    found = _operators().deform_conv2d_backward(*operands, *geometry, asked)
    return {name: found[i] for i, name in enumerate(_BACKWARD_ORDER) if asked[i]}
