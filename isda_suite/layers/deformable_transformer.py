"""mmdet's deformable transformer on the attention operator of isda_suite.

mmdet's layers name mmcv's attention class in their code; these subclasses only put ours in its
place. Parameter names, initialisation and numbers stay those of mmdet.
"""

from collections.abc import Sequence

import torch
from mmdet.models.layers import (
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerDecoderLayer,
    DeformableDetrTransformerEncoder,
    DeformableDetrTransformerEncoderLayer,
)
from mmengine.model import ModuleList
from torch import Tensor, nn

from isda_suite.ops import MultiScaleDeformableAttention

from .errors import ModelConfigError


class DeformableTransformerEncoderLayer(DeformableDetrTransformerEncoderLayer):
    """Encoder layer of mmdet with our deformable self-attention."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.self_attn = MultiScaleDeformableAttention(**self.self_attn_cfg)


class DeformableTransformerDecoderLayer(DeformableDetrTransformerDecoderLayer):
    """Decoder layer of mmdet with our deformable cross-attention."""

    def _init_layers(self) -> None:
        super()._init_layers()
        self.cross_attn = MultiScaleDeformableAttention(**self.cross_attn_cfg)


class DeformableTransformerEncoder(DeformableDetrTransformerEncoder):
    """Encoder of Deformable DETR (arXiv:2010.04159, section 4); arguments as mmdet's class.

    Raises:
        ModelConfigError: if ``num_cp`` is set: mmdet's checkpointing needs a package that is no
            longer kept; use ``activation_checkpointing`` of the runner's configuration instead.
    """

    def _init_layers(self) -> None:
        if self.num_cp > 0:
            raise ModelConfigError(
                'encoder.num_cp: not supported, set activation_checkpointing=["encoder.layers.0", '
                '...] in the configuration (mmengine) instead'
            )
        self.layers = ModuleList(
            [DeformableTransformerEncoderLayer(**self.layer_cfg) for _ in range(self.num_layers)]
        )
        self.embed_dims = self.layers[0].embed_dims

    @staticmethod
    def get_encoder_reference_points(
        spatial_shapes: Sequence[Sequence[int]],
        valid_ratios: Tensor,
        device: torch.device | str,
    ) -> Tensor:
        """Compute where the cells of all levels look in every level.

        As mmdet's, to the bit, for sizes that are numbers or the symbols of a compiler.

        Args:
            spatial_shapes: L times (h, w).
            valid_ratios: (B, L, 2) as (x, y), unpadded shares.
            device: Where to.

        Returns:
            (B, cells of all levels, L, 2) as (x, y), 0..1 across a level with its padding.
        """
        points = []
        for level, (height, width) in enumerate(spatial_shapes):
            y = torch.arange(height, dtype=torch.float32, device=device) + 0.5
            x = torch.arange(width, dtype=torch.float32, device=device) + 0.5
            y = y[:, None].expand(height, width).reshape(1, -1)
            x = x[None].expand(height, width).reshape(1, -1)
            sides = valid_ratios[:, None, level]
            points.append(
                torch.stack((x / (sides[..., 0] * width), y / (sides[..., 1] * height)), -1)
            )
        return torch.cat(points, 1)[:, :, None] * valid_ratios[:, None]


class DeformableTransformerDecoder(DeformableDetrTransformerDecoder):
    """Decoder of Deformable DETR (arXiv:2010.04159, section 4); arguments as mmdet's class."""

    def _init_layers(self) -> None:
        if self.post_norm_cfg is not None:
            raise ModelConfigError(
                f'decoder.post_norm_cfg: expected None (this decoder has no final norm), '
                f'got {self.post_norm_cfg}'
            )
        self.layers = ModuleList(
            [DeformableTransformerDecoderLayer(**self.layer_cfg) for _ in range(self.num_layers)]
        )
        self.embed_dims = self.layers[0].embed_dims


def init_deformable_attention(module: nn.Module) -> None:
    """Initialise every deformable attention below a module as published.

    Xavier initialisation of a whole transformer overwrites the offsets, so this has to run last.
    """
    for child in module.modules():
        if isinstance(child, MultiScaleDeformableAttention):
            child.init_weights()
