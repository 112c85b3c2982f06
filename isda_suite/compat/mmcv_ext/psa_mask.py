"""PSA mask: a window of weights around every position, spread over the whole map.

B images, S = H * W positions. Position (h, w) predicts one weight for each (y, x) of a window
around it; ``collect`` lays them out by the position that is looked at, ``distribute`` by the one
that looks.

Source: PSANet (ECCV 2018), section 3.3.
"""

import torch
from torch import Tensor

_COLLECT, _DISTRIBUTE = 0, 1


def psamask_forward(input: Tensor, output: Tensor, *, psa_type: int, **sizes: int) -> None:
    """Write the spread weights into ``output``.

    Args:
        input: (B, window height * window width, H, W).
        output: (B, S, H, W); receives the result, 0 outside of the windows.
        psa_type: 0 collect, 1 distribute.
        sizes: num_ h_feature w_feature h_mask w_mask half_h_mask half_w_mask.
    """
    channel, inside = _window_channels(sizes, input.device)
    weights = input.flatten(2).gather(1, channel.expand(len(input), -1, -1))
    weights = weights * inside  # (B, looked at, looking)
    if psa_type == _DISTRIBUTE:
        weights = weights.transpose(1, 2)
    output.copy_(weights.reshape(output.shape))


def psamask_backward(
    grad_output: Tensor, grad_input: Tensor, *, psa_type: int, **sizes: int
) -> None:
    """Add the gradient of the weights to ``grad_input``.

    Args:
        grad_output: (B, S, H, W).
        grad_input: Like the input; is added to.
        psa_type: As in the forward pass.
        sizes: As in the forward pass.
    """
    channel, inside = _window_channels(sizes, grad_output.device)
    gradient = grad_output.flatten(2)
    if psa_type == _DISTRIBUTE:
        gradient = gradient.transpose(1, 2)
    flat = torch.zeros_like(grad_input).flatten(2)
    flat.scatter_add_(1, channel.expand(len(flat), -1, -1), gradient * inside)
    grad_input.add_(flat.view_as(grad_input))


def _window_channels(sizes: dict[str, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """(S, S) channel of the weight that position 2 has for position 1, and whether it has one."""
    height, width = sizes['h_feature'], sizes['w_feature']
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    row = rows[:, None] - rows[None] + sizes['half_h_mask']
    column = columns[:, None] - columns[None] + sizes['half_w_mask']
    inside = (row >= 0) & (row < sizes['h_mask']) & (column >= 0) & (column < sizes['w_mask'])
    channel = row * sizes['w_mask'] + column
    return channel.where(inside, torch.zeros_like(channel)), inside
