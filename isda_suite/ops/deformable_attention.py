"""Multi-scale deformable attention as a module, with mmcv's names and arguments."""

import math
from typing import Any

import torch
from mmengine.model import BaseModule, constant_init, xavier_init
from torch import Tensor, nn

from isda_suite.registry import MODELS

from .ms_deform_attn_fused import ms_deform_attn_fused


@MODELS.register_module()
class MultiScaleDeformableAttention(BaseModule):
    """Attend to a few sampled points on every level.

    Parameter names, initialisation and arguments are those of
    ``mmcv.ops.MultiScaleDeformableAttention``, so checkpoints and configs carry over. Reference
    points stay in float32 when the rest is 16 bits wide, and so do the sampling locations and
    attention weights that :func:`ms_deform_attn_fused` makes of them and the projected queries.

    Args:
        embed_dims: Channels of queries and output.
        num_heads: M, the heads.
        num_levels: L, the feature levels.
        num_points: P, sampling points of a query, head and level.
        im2col_step: Accepted for mmcv's configs and ignored: any batch size works.
        dropout: Probability of dropping an output channel before the residual is added.
        batch_first: Whether queries and values are (B, N, C) rather than (N, B, C).
        norm_cfg: Accepted for mmcv's configs and ignored.
        init_cfg: As in every module of mmengine.
        value_proj_ratio: Channels of the values as a multiple of ``embed_dims``.

    Raises:
        ValueError: if the heads do not divide the channels.

    Source: Deformable DETR (arXiv:2010.04159), section 4.1.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        im2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
        value_proj_ratio: float = 1.0,
    ) -> None:
        # By name: under patch_mmcv mmcv's class, which has other arguments, comes next.
        BaseModule.__init__(self, init_cfg)
        value_dims = int(embed_dims * value_proj_ratio)
        for name, dims in (
            ('embed_dims', embed_dims),
            ('embed_dims * value_proj_ratio', value_dims),
        ):
            if dims % num_heads != 0:
                raise ValueError(
                    f'{name}: expected a multiple of num_heads={num_heads}, got {dims}'
                )
        self.norm_cfg = norm_cfg
        self.dropout = nn.Dropout(dropout)
        self.batch_first = batch_first
        self.im2col_step = im2col_step
        self.embed_dims = embed_dims
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, value_dims)
        self.output_proj = nn.Linear(value_dims, embed_dims)
        self.init_weights()

    def init_weights(self) -> None:
        """Start with heads looking in evenly spread directions, the points one cell apart."""
        constant_init(self.sampling_offsets, 0.0)
        bias = self.sampling_offsets.bias
        angles = torch.arange(self.num_heads, dtype=torch.float32, device=bias.device)
        angles = angles * (2.0 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().max(-1, keepdim=True)[0]
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32, device=bias.device)
        offsets = directions.view(-1, 1, 1, 2) * steps.view(1, 1, -1, 1)
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            bias.copy_(offsets.reshape(-1))
        constant_init(self.attention_weights, val=0.0, bias=0.0)
        xavier_init(self.value_proj, distribution='uniform', bias=0.0)
        xavier_init(self.output_proj, distribution='uniform', bias=0.0)
        self._is_init = True

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | list[tuple[int, int]] | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Sample the values around the reference points and add the result to ``identity``.

        Args:
            query: (Q, B, C), or (B, Q, C) with ``batch_first``.
            key: Ignored; part of mmcv's signature.
            value: (S, B, C) or (B, S, C); the queries if ``None``.
            identity: What the output is added to; the queries if ``None``. Its old name
                ``residual`` is taken too.
            query_pos: Added to the queries before the projections.
            key_padding_mask: (B, S), true where a value counts as zero.
            reference_points: (B, Q, L, 2) as (x, y) or (B, Q, L, 4) as (x, y, w, h), 0..1; the
                level axis may be 1.
            spatial_shapes: (L, 2) as (h, w), a tensor or a list of pairs.
            level_start_index: (L,), where levels start; ``None`` if one follows the other.
            **kwargs: Otherwise ignored; mmdet's layers pass more than is needed.

        Returns:
            The shape of ``query``.

        Raises:
            ValueError: if an operand is missing or does not fit.
        """
        if reference_points is None or spatial_shapes is None:
            missing = 'reference_points' if reference_points is None else 'spatial_shapes'
            raise ValueError(f'{missing}: expected a tensor, got None')
        value = query if value is None else value
        identity = kwargs.get('residual') if identity is None else identity
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.permute(1, 0, 2), value.permute(1, 0, 2)
        if reference_points.shape[-1] not in (2, 4):
            raise ValueError(
                'reference_points: expected a last axis of 2 (x, y) or 4 (x, y, w, h), '
                f'got shape {tuple(reference_points.shape)}'
            )
        value = self._project_value(value, key_padding_mask, spatial_shapes)
        b, q, _ = query.shape
        samples = (b, q, self.num_heads, self.num_levels, self.num_points)
        output = ms_deform_attn_fused(
            value,
            spatial_shapes,
            level_start_index if isinstance(spatial_shapes, Tensor) else None,
            reference_points.to(torch.promote_types(value.dtype, torch.float32)),
            self.sampling_offsets(query).view(*samples, 2),
            self.attention_weights(query).view(samples),
        )
        output = self.output_proj(output)
        if not self.batch_first:
            output = output.permute(1, 0, 2)
        return self.dropout(output) + identity

    def _project_value(
        self, value: Tensor, mask: Tensor | None, spatial_shapes: Tensor | list[tuple[int, int]]
    ) -> Tensor:
        """Project to (B, S, M, C of a head), zero where the mask is true."""
        b, s, _ = value.shape
        if not torch.compiler.is_compiling() and (
            not isinstance(spatial_shapes, Tensor) or spatial_shapes.device.type == 'cpu'
        ):
            rows = sum(int(h) * int(w) for h, w in spatial_shapes)
            if rows != s:
                raise ValueError(f'value: expected {rows} rows as spatial_shapes has, got {s}')
        value = self.value_proj(value)
        if mask is not None:
            value = value.masked_fill(mask[..., None], 0.0)
        return value.view(b, s, self.num_heads, -1)
