"""Sine encodings of positions in a clip (time, row, column) and in the grid of tokens.

mmdet's ``SinePositionalEncoding3D`` adds a time term to a 2-D encoding; here every axis has
channels of its own.
"""

import math

import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError

TEMPERATURE = 10000.0
EPS = 1e-6


def encode_clip(padding_mask: Tensor, embed_dims: int) -> Tensor:
    r"""Encode time, row and column of every cell, C / 3 channels each, in this order.

    Positions count cells without padding and are normalised per axis to (0, 2π]: the first frame
    has 2π / T, the last one 2π. With e a position and D = C / 3,

    .. math:: \tau_i = 10000^{2 \lfloor i/2 \rfloor / D}, \quad
        f_{2i} = \sin(e / \tau_{2i}), \quad f_{2i+1} = \cos(e / \tau_{2i+1})

    Args:
        padding_mask: (B, T, h, w) bool, True where a frame is padding.
        embed_dims: C, a multiple of 6.

    Returns:
        (B, T, C, h, w) float32.

    Source: VisTR (arXiv:2011.14503), section 3.2.
    """
    axes = _encode(~padding_mask, (1, 2, 3), embed_dims)
    return axes.permute(0, 1, 4, 2, 3)


def encode_grid(rows: int, columns: int, embed_dims: int, device: torch.device) -> Tensor:
    """Encode row and column of a grid of tokens, C / 2 channels each, as for a clip.

    Args:
        rows: Slots.
        columns: Tokens of a slot.
        embed_dims: C, a multiple of 4.
        device: Where to.

    Returns:
        (rows * columns, C) float32, row by row.
    """
    everywhere = torch.ones(rows, columns, dtype=torch.bool, device=device)
    return _encode(everywhere, (0, 1), embed_dims).flatten(0, 1)


def require_even_channels(name: str, embed_dims: int, num_axes: int) -> None:
    """Refuse channels that do not divide into pairs of sine and cosine for every axis.

    Raises:
        ModelConfigError: if ``embed_dims`` is no multiple of ``2 * num_axes``.
    """
    if embed_dims % (2 * num_axes):
        raise ModelConfigError(
            f'{name}: expected a multiple of {2 * num_axes} (pairs of sine and cosine for '
            f'{num_axes} axes), got {embed_dims}'
        )


def _encode(valid: Tensor, axes: tuple[int, ...], embed_dims: int) -> Tensor:
    """Encode the positions along some axes of a mask: (...) bool to (..., embed_dims)."""
    require_even_channels('embed_dims', embed_dims, len(axes))
    dims = embed_dims // len(axes)
    index = torch.arange(dims, device=valid.device)
    scale = TEMPERATURE ** (2 * index.div(2, rounding_mode='floor') / dims)
    encoded = []
    for axis in axes:
        position = valid.cumsum(axis, dtype=torch.float32)
        last = position.narrow(axis, position.shape[axis] - 1, 1)
        angle = (position / (last + EPS) * (2 * math.pi))[..., None] / scale
        pairs = torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1)
        encoded.append(pairs.flatten(-2))
    return torch.cat(encoded, -1)
