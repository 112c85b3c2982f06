"""The twin transformer of SOTR: attention along columns and along rows, convolutions between."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

DUPLICATE = ('width', 'none')
POS_EMBED = ('none', 'axial')
# Rows and columns of the learnt tables of `pos_embed='axial'`; other sizes are interpolated.
POS_EMBED_SIZE = 40


class AxialAttention(nn.Module):
    r"""Multi-head self-attention within every column, or within every row, of a map.

    Args:
        embed_dims: C, channels of the map.
        num_heads: M; C / M channels each.
        along: ``'column'`` or ``'row'``: which of the lines of the map are the sequences.

    Source: SOTR (arXiv:2108.06747), twin attention.
    """

    def __init__(self, embed_dims: int, num_heads: int, along: str) -> None:
        super().__init__()
        self.num_heads, self.along = num_heads, along
        self.q_proj = nn.Linear(embed_dims, embed_dims, bias=False)
        self.kv_proj = nn.Linear(embed_dims, 2 * embed_dims, bias=False)
        self.out_proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attend along the lines.

        The products are computed in float32 also under automatic mixed precision: nothing in this
        transformer is normalised, so they may leave the range of 16 bits.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        # Lines (B, N, T, C): N lines of T cells.
        lines = x.permute(0, 3, 2, 1) if self.along == 'column' else x.permute(0, 2, 3, 1)
        b, n, t, c = lines.shape
        parts = (self.q_proj(lines), *self.kv_proj(lines).chunk(2, dim=-1))
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(device_type=x.device.type, enabled=False):
            query, key, value = (
                part.reshape(b * n, t, self.num_heads, -1).transpose(1, 2).to(dtype)
                for part in parts
            )
            mixed = F.scaled_dot_product_attention(query, key, value)
        out = self.out_proj(mixed.transpose(1, 2).reshape(b, n, t, c))
        return out.permute(0, 3, 2, 1) if self.along == 'column' else out.permute(0, 3, 1, 2)


class TwinLayer(BaseModule):
    r"""One layer: both attentions in parallel, then two convolution branches in parallel.

    .. math::
        X &\leftarrow X + a\,A_{column}(X) + b\,A_{row}(X) \\
        X &\leftarrow X + c\,G_1(X) + d\,G_2(X)

    Both terms of a line read the same X. The gains a, b, c, d are learnt and start at 0, so a new
    layer is the identity.

    Args:
        embed_dims: C, channels of the map.
        num_heads: Heads of each attention.

    Source: SOTR (arXiv:2108.06747), twin attention layer.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.column_attn = AxialAttention(embed_dims, num_heads, 'column')
        self.row_attn = AxialAttention(embed_dims, num_heads, 'row')
        self.conv_branches = ModuleList(_conv_branch(embed_dims) for _ in range(2))
        self.column_gain = nn.Parameter(torch.zeros(()))
        self.row_gain = nn.Parameter(torch.zeros(()))
        self.conv_gains = nn.ParameterList(torch.zeros(()) for _ in range(2))

    def attend(self, x: Tensor) -> Tensor:
        """Add both attentions; shapes stay."""
        return x + self.column_gain * self.column_attn(x) + self.row_gain * self.row_attn(x)

    def convolve(self, x: Tensor) -> Tensor:
        """Add both convolution branches; shapes stay."""
        branches = zip(self.conv_gains, self.conv_branches, strict=True)
        first, second = (gain * branch(x) for gain, branch in branches)
        return x + first + second

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        return self.convolve(self.attend(x))


@MODELS.register_module()
class TwinTransformer(BaseModule):
    """Transform a map with attention along its columns and rows.

    There is no norm, no dropout and, as published, no position embedding: position enters only
    through the zero padding of the convolutions.

    Args:
        embed_dims: C, channels of the map.
        depth: Number of layers.
        num_heads: Heads of each attention.
        duplicate: ``'width'`` (published): two copies of the map side by side go through the
            layers and are averaged at the end. ``'none'``: one copy, half the cost; other weights.
        pos_embed: ``'none'`` (published) or ``'axial'``: learnt vectors of rows and columns are
            added to the input.
        with_cp: Compute every layer again in the backward pass instead of keeping its activations.
        init_cfg: As :class:`mmengine.model.BaseModule`.

    Raises:
        ModelConfigError: for an unknown option or channels that the heads do not divide.

    Source: SOTR (arXiv:2108.06747), section 3.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        depth: int = 12,
        num_heads: int = 8,
        duplicate: str = 'width',
        pos_embed: str = 'none',
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_one_of('transformer.duplicate', duplicate, DUPLICATE)
        require_one_of('transformer.pos_embed', pos_embed, POS_EMBED)
        if num_heads < 1 or embed_dims % num_heads:
            raise ModelConfigError(
                f'transformer: embed_dims={embed_dims} cannot be split into num_heads={num_heads} '
                'equal heads'
            )
        self.embed_dims, self.duplicate, self.with_cp = embed_dims, duplicate, with_cp
        self.layers = ModuleList(TwinLayer(embed_dims, num_heads) for _ in range(depth))
        self.pos_embed = pos_embed
        if pos_embed == 'axial':
            size = (1, embed_dims, POS_EMBED_SIZE)
            self.row_embed = nn.Parameter(torch.randn(size) * 0.02)
            self.column_embed = nn.Parameter(torch.randn(size) * 0.02)

    def enter(self, x: Tensor) -> Tensor:
        """Make what the first layer reads: (B, C, H, 2 W), or (B, C, H, W) without a copy."""
        if self.pos_embed == 'axial':
            rows, columns = (
                F.interpolate(table, size=size, mode='linear', align_corners=False)
                for table, size in zip(
                    (self.row_embed, self.column_embed), x.shape[-2:], strict=True
                )
            )
            x = x + rows[..., :, None] + columns[..., None, :]
        # Compat: the copies stand side by side, where the opposite edges of the image touch, not
        # along the channels as in the reversible transformers this comes from.
        return torch.cat([x, x], dim=-1) if self.duplicate == 'width' else x

    def leave(self, x: Tensor) -> Tensor:
        """Average the copies: (B, C, H, W)."""
        if self.duplicate == 'none':
            return x
        first, second = x.chunk(2, dim=-1)
        return (first + second) / 2

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map of any size.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        x = self.enter(x)
        for layer in self.layers:
            recompute = self.with_cp and self.training and torch.is_grad_enabled()
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
        return self.leave(x)


def _conv_branch(embed_dims: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(embed_dims, embed_dims, 3, padding=1),
        nn.LeakyReLU(0.01),
        nn.Conv2d(embed_dims, embed_dims, 3, padding=1),
    )
