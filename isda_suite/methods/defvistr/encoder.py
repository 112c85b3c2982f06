"""Encoders of a clip: deformable, with frames in the role of feature levels, and dense."""

from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isda_suite.layers.deformable_transformer import init_deformable_attention
from isda_suite.ops import MultiScaleDeformableAttention

from .attention import FusedAttention
from .options import TransformerOptions


def run_layer(layer: nn.Module, recompute: bool, *args: Any, **kwargs: Any) -> Any:
    """Call a layer; with ``recompute`` it is computed again in the backward pass, not kept."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *args, use_reentrant=False, **kwargs)
    return layer(*args, **kwargs)


def xavier_matrices(module: nn.Module) -> None:
    """Initialise every parameter of two or more axes by Xavier's uniform distribution."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def ffn_config(options: TransformerOptions) -> dict[str, Any]:
    """Return the arguments of mmcv's ``FFN``."""
    return dict(
        embed_dims=options.embed_dims,
        feedforward_channels=options.feedforward_channels,
        num_fcs=2,
        ffn_drop=options.dropout,
        act_cfg=dict(type='ReLU', inplace=True),
    )


def layer_norms(embed_dims: int, count: int) -> ModuleList:
    """Make layer normalisations."""
    return ModuleList([build_norm_layer(dict(type='LN'), embed_dims)[1] for _ in range(count)])


class ClipEncoderLayer(BaseModule):
    """Encoder layer of DETR with names as in mmdet: attention, norm, feed-forward, norm.

    Args:
        attention: The self-attention, which adds its result to the queries.
        options: Sizes.
    """

    def __init__(self, attention: nn.Module, options: TransformerOptions) -> None:
        super().__init__()
        self.self_attn = attention
        self.ffn = FFN(**ffn_config(options))
        self.norms = layer_norms(options.embed_dims, 2)

    def forward(self, query: Tensor, **attention_inputs: Any) -> Tensor:
        """Map (B, tokens, C) to the same shape; the rest goes to the attention."""
        query = self.norms[0](self.self_attn(query, **attention_inputs))
        query = self.norms[1](self.ffn(query))
        return query


class FramesAsLevelsEncoder(BaseModule):
    r"""Deformable encoder in which the frames take the role of feature levels.

    Level t is the map of frame t; with ``token_grid``, one more level is the grid of instance
    tokens, treated as a picture of one row a slot. A token at the position p of its level (in
    shares of what is not padding) looks around the same place p in every level,

    .. math:: r_m = p \odot v_m, \quad v_m = (\text{unpadded width}, \text{height}) / (w_m, h_m)

    Offsets and weights have separate outputs per level, and position enters by the encoding only.

    Axes: B clips, T frames, (h, w) map, S = T·h·w, L levels, N tokens of the grid, C channels.

    Args:
        options: Sizes.
        num_frames: T.
        token_grid: (rows, columns) of the last level; ``None`` without instance tokens.

    Source: DefVisTR (arXiv:2203.06318), section 2.
    """

    def __init__(
        self,
        options: TransformerOptions,
        num_frames: int,
        token_grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.token_grid = token_grid
        self.with_cp = options.encoder_cp
        attention: dict[str, Any] = dict(
            embed_dims=options.embed_dims,
            num_heads=options.num_heads,
            num_levels=num_frames + (token_grid is not None),
            num_points=options.num_points,
            dropout=options.dropout,
            batch_first=True,
        )
        self.layers = ModuleList(
            ClipEncoderLayer(MultiScaleDeformableAttention(**attention), options)
            for _ in range(options.encoder_layers)
        )

    def init_weights(self) -> None:
        """Start from uniform attention to points in evenly spread directions."""
        super().init_weights()
        xavier_matrices(self)
        init_deformable_attention(self)

    def forward(
        self, query: Tensor, query_pos: Tensor, padding_mask: Tensor, padded: bool = True
    ) -> Tensor:
        """Let the tokens of all frames exchange what they see.

        Args:
            query: (B, S + N, C), frames first, each row by row.
            query_pos: (B, S + N, C), their position encoding.
            padding_mask: (B, T, h, w) bool, True where a frame is padding.
            padded: Whether anything is padding.

        Returns:
            (B, S + N, C), the memory.
        """
        shapes = self.level_shapes(padding_mask)
        points = reference_points(shapes, self.valid_ratios(padding_mask))
        inputs = dict(
            query_pos=query_pos,
            key_padding_mask=self._hidden(padding_mask) if padded else None,
            reference_points=points,
            spatial_shapes=shapes,
        )
        for layer in self.layers:
            query = run_layer(layer, self.with_cp, query, **inputs)
        return query

    def level_shapes(self, padding_mask: Tensor) -> list[tuple[int, int]]:
        """List (h, w) of all levels."""
        h, w = padding_mask.shape[-2:]
        grid = [] if self.token_grid is None else [self.token_grid]
        return [(h, w)] * self.num_frames + grid

    def valid_ratios(self, padding_mask: Tensor) -> Tensor:
        """Compute the unpadded share of width and height of every level: (B, L, 2) as (x, y)."""
        valid = ~padding_mask
        ratios = torch.stack(
            (valid[:, :, 0].float().mean(-1), valid[:, :, :, 0].float().mean(-1)), -1
        )
        if self.token_grid is None:
            return ratios
        return torch.cat((ratios, ratios.new_ones(len(ratios), 1, 2)), 1)

    def _hidden(self, padding_mask: Tensor) -> Tensor:
        """Flatten the padding and add the tokens, none of which is padding: (B, S + N)."""
        hidden = padding_mask.flatten(1)
        rows, columns = self.token_grid or (0, 0)
        return torch.cat((hidden, hidden.new_zeros(len(hidden), rows * columns)), 1)


def reference_points(shapes: list[tuple[int, int]], valid_ratios: Tensor) -> Tensor:
    """Compute where the tokens of all levels look in every level; float32, also under autocast.

    Args:
        shapes: L times (h, w).
        valid_ratios: (B, L, 2) as (x, y), unpadded shares.

    Returns:
        (B, tokens of all levels, L, 2) as (x, y), 0..1 across a level with its padding.
    """
    points = []
    last = None
    for level, size_hw in enumerate(shapes):
        # By identity: to compare sizes that a compiler leaves open would fix them.
        if size_hw is not last:
            centres, last = _cell_centres(size_hw, valid_ratios.device), size_hw
        points.append(centres / valid_ratios[:, level, None])
    return torch.cat(points, 1)[:, :, None] * valid_ratios[:, None]


def _cell_centres(size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Compute the centres (h * w, 2) of the cells of a map as (x, y), 0..1, row by row."""
    y, x = ((torch.arange(side, device=device) + 0.5) / side for side in size_hw)
    rows, columns = torch.meshgrid(y, x, indexing='ij')
    return torch.stack((columns, rows), -1).flatten(0, 1)


class DenseClipEncoder(BaseModule):
    """The encoder of VisTR: every token of the clip attends to every other.

    Args:
        options: Sizes.

    Source: VisTR (arXiv:2011.14503), section 3.2.
    """

    def __init__(self, options: TransformerOptions) -> None:
        super().__init__()
        self.with_cp = options.encoder_cp
        self.layers = ModuleList(
            ClipEncoderLayer(
                FusedAttention(options.embed_dims, options.num_heads, options.dropout), options
            )
            for _ in range(options.encoder_layers)
        )

    def init_weights(self) -> None:
        """Start from Xavier's distribution."""
        super().init_weights()
        xavier_matrices(self)

    def forward(
        self, query: Tensor, query_pos: Tensor, padding_mask: Tensor, padded: bool = True
    ) -> Tensor:
        """As :meth:`FramesAsLevelsEncoder.forward`, without a grid of tokens."""
        allowed = ~padding_mask.flatten(1)[:, None, None] if padded else None
        for layer in self.layers:
            query = run_layer(layer, self.with_cp, query, query_pos=query_pos, allowed=allowed)
        return query
