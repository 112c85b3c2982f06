"""mmdet's Deformable DETR on the attention operator of isda_suite, as a base of detectors."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import DeformableDETR
from mmdet.models.layers import SinePositionalEncoding
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from .deformable_transformer import (
    DeformableTransformerDecoder,
    DeformableTransformerEncoder,
    init_deformable_attention,
)
from .padding import BatchSizes, padding_at


class DeformableDetector(DeformableDETR):
    """Single-stage Deformable DETR whose encoder and decoder use our attention.

    Args:
        bbox_head: Config of the head (the key keeps mmdet's name).
        **kwargs: As :class:`mmdet.models.DeformableDETR`.

    Source: Deformable DETR (arXiv:2010.04159).
    """

    def __init__(self, *args: Any, bbox_head: dict[str, Any] | None = None, **kwargs: Any) -> None:
        # mmdet writes into the head's dict, which would break building the same config twice.
        super().__init__(*args, bbox_head=copy.deepcopy(bbox_head), **kwargs)

    def _init_layers(self) -> None:
        # mmdet's constructor leaves the configurations under the names of the modules.
        configs = {name: vars(self)[name] for name in ('positional_encoding', 'encoder', 'decoder')}
        self.positional_encoding = SinePositionalEncoding(**configs['positional_encoding'])
        self.encoder = DeformableTransformerEncoder(**configs['encoder'])
        self.decoder = DeformableTransformerDecoder(**configs['decoder'])
        self.embed_dims = self.encoder.embed_dims
        self.query_embedding = nn.Embedding(self.num_queries, 2 * self.embed_dims)
        # mmdet leaves it empty until init_weights: whatever lay in that memory, NaN included.
        self.level_embed = nn.Parameter(torch.zeros(self.num_feature_levels, self.embed_dims))
        self.reference_points_fc = nn.Linear(self.embed_dims, 2)

    def init_weights(self) -> None:
        """Initialise everything before a checkpoint is loaded."""
        super().init_weights()
        init_deformable_attention(self)

    def pre_transformer(
        self,
        mlvl_feats: Sequence[Tensor],
        batch_data_samples: BatchSizes | Sequence[DetDataSample] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make the inputs of encoder and decoder.

        As mmdet's, to the bit, but sizes of maps stay numbers: a table of them would have to be
        read again, which breaks the graph of a compiler and makes the GPU wait.

        Args:
            mlvl_feats: L maps (B, C, h, w), finest first.
            batch_data_samples: B samples with ``batch_input_shape`` and ``img_shape`` in their
                metainfo, or the sizes themselves.

        Returns:
            Arguments of ``forward_encoder``, and those of ``forward_decoder`` that do not come
            from the encoder.
        """
        sizes = batch_data_samples
        if not isinstance(sizes, BatchSizes):
            sizes = BatchSizes.of(batch_data_samples, mlvl_feats[0].device)
        feats, positions, masks, ratios = [], [], [], []
        for feat, level_embed in zip(mlvl_feats, self.level_embed, strict=True):
            mask = None
            if sizes.padded is not None:
                mask = padding_at(feat, sizes.input_hw, sizes.padded)
            position = self.positional_encoding(mask, feat)
            feats.append(feat.flatten(2).mT)
            positions.append(position.flatten(2).mT + level_embed.view(1, 1, -1))
            if mask is None:
                ratios.append(feat.new_ones(len(feat), 2))
            else:
                masks.append(mask.flatten(1))
                ratios.append(self.get_valid_ratio(mask))
        mask = torch.cat(masks, 1) if masks else None
        shared = dict(
            spatial_shapes=[(feat.shape[2], feat.shape[3]) for feat in mlvl_feats],
            level_start_index=None,
            valid_ratios=torch.stack(ratios, 1),
        )
        encoder_inputs = dict(feat=torch.cat(feats, 1), feat_mask=mask, **shared)
        encoder_inputs['feat_pos'] = torch.cat(positions, 1)
        return encoder_inputs, dict(memory_mask=mask, **shared)


def unpadded_samples(finest: Tensor, stride: int) -> list[DetDataSample]:
    """Make samples that say that the whole input is image, for a plain forward pass.

    Args:
        finest: (B, C, H, W), a map of the network.
        stride: Input pixels per cell of it.

    Returns:
        B samples with ``batch_input_shape`` and ``img_shape``.
    """
    size_hw = tuple(stride * n for n in finest.shape[-2:])
    sample = DetDataSample(metainfo={'batch_input_shape': size_hw, 'img_shape': size_hw})
    return [sample] * len(finest)
