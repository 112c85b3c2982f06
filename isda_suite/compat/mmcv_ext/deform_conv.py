"""Deformable convolution, with and without modulation, on torchvision's operator.

mmcv hands results and gradients in as tensors to be filled, and the geometry as keywords.
B images, C input channels, O output channels, K = kernel height * width, G = deformable groups.
"""

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from .precision import widen


@dataclass(frozen=True)
class ConvGeometry:
    """Numbers of a convolution in the order in which torchvision takes them."""

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    deform_groups: int

    @classmethod
    def plain(cls, options: dict[str, int]) -> 'ConvGeometry':
        """Read the keywords of the operators without modulation."""
        names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
        return cls(*(int(options[name]) for name in names))

    @classmethod
    def modulated(cls, options: dict[str, int]) -> 'ConvGeometry':
        """Read the keywords of the operators with modulation."""
        names = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w')
        return cls(*(int(options[name]) for name in (*names, 'group', 'deformable_group')))


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
    _convolve(input, weight, offset, None, None, output, ConvGeometry.plain(options))


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

    torchvision computes the gradient of the weight along with them. It is left with the scratch
    tensor, which mmcv passes on to ``deform_conv_backward_parameters``, so that it is not
    computed a second time.

    Args:
        input: As in the forward pass.
        offset: As in the forward pass.
        grad_output: (B, O, H_out, W_out).
        grad_input: Receives the gradient of ``input``.
        grad_offset: Receives the gradient of ``offset``.
        weight: As in the forward pass.
        columns: Scratch, see above.
        options: As in the forward pass.
    """
    geometry = ConvGeometry.plain(options)
    grads = _gradients(grad_output, input, weight, offset, None, geometry)
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])
    columns._grad_weight_of = (grad_output, grads[1])  # type: ignore[attr-defined]


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
        columns: Scratch, may hold the gradient already.
        ones: Scratch, not used.
        options: As in the forward pass, and ``scale``.
    """
    scale = options.get('scale', 1)
    known_for, gradient = columns.__dict__.pop('_grad_weight_of', (None, None))
    if known_for is not grad_output:
        geometry = ConvGeometry.plain(options)
        # The gradient of the weight does not depend on the weight: its shape is enough.
        gradient = _gradients(grad_output, input, grad_weight, offset, None, geometry)[1]
    grad_weight.add_(gradient.to(grad_weight.dtype), alpha=scale)


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
    _convolve(input, weight, offset, mask, used_bias, output, ConvGeometry.modulated(options))


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
    geometry = ConvGeometry.modulated(options)
    grads = _gradients(grad_output, input, weight, offset, mask, geometry)
    targets = [grad_input, grad_weight, grad_offset, grad_mask]
    if options['with_bias']:
        targets.append(grad_bias)
    for target, gradient in zip(targets, grads, strict=False):
        target.copy_(gradient)


def _convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    output: Tensor,
    geometry: ConvGeometry,
) -> None:
    tensors = [widen(tensor) for tensor in (input, weight, offset)]
    tensors.append(_mask_or_empty(mask, tensors[0]))
    tensors.append(tensors[0].new_zeros(len(weight)) if bias is None else widen(bias))
    use_mask = mask is not None
    result = torch.ops.torchvision.deform_conv2d(*tensors, *astuple(geometry), use_mask)
    output.copy_(result)


def _gradients(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: ConvGeometry,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of input, weight, offset, mask and bias."""
    tensors = [widen(tensor) for tensor in (grad_output, input, weight, offset)]
    tensors.append(_mask_or_empty(mask, tensors[1]))
    tensors.append(tensors[1].new_zeros(len(weight)))
    use_mask = mask is not None
    return torch.ops.torchvision._deform_conv2d_backward(*tensors, *astuple(geometry), use_mask)


def _mask_or_empty(mask: Tensor | None, like: Tensor) -> Tensor:
    """Give torchvision a small unused tensor where there is no mask."""
    return like.new_zeros(len(like), 1) if mask is None else widen(mask)
