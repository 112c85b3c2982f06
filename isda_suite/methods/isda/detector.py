"""ISDA, the detector: backbone, neck, mask feature branch, deformable transformer, head."""

from typing import Any

import torch
from mmdet.structures import OptSampleList
from torch import Tensor

from isda_suite.layers.deformable_detector import DeformableDetector, unpadded_samples
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

MASK_FEAT_SOURCES = ('neck', 'encoder')


@MODELS.register_module()
class ISDA(DeformableDetector):
    """Position-aware instance segmentation with deformable attention.

    A Deformable DETR without boxes: every decoder query gives class logits and one 1x1 kernel,
    whose convolution with the mask feature map is the instance mask. Assignment is one-to-one, so
    inference needs no suppression of duplicates.

    Shapes: B images, L levels of the transformer, C channels; levels are finest first.

    The neck gives L + 1 maps, strides 4 to 64: the first L feed the mask feature branch, the last
    L the transformer.

    Args:
        mask_feat_head: Config of the mask feature branch.
        mask_feat_source: ``'neck'`` (the published code) or ``'encoder'``: the maps of the levels
            that the encoder has seen are then taken from its memory, as the paper's text says.
        bbox_head: Config of :class:`ISDAHead` (the key keeps mmdet's name).
        **kwargs: As :class:`mmdet.models.DeformableDETR`.

    Raises:
        ModelConfigError: for an unknown ``mask_feat_source`` or a variant that ISDA does not have.

    Source: ISDA (arXiv:2202.12251), section 2.
    """

    def __init__(
        self,
        *args: Any,
        mask_feat_head: dict[str, Any],
        mask_feat_source: str = 'neck',
        **kwargs: Any,
    ) -> None:
        require_one_of('mask_feat_source', mask_feat_source, MASK_FEAT_SOURCES)
        for key in ('with_box_refine', 'as_two_stage'):
            if kwargs.get(key):
                raise ModelConfigError(f'{key}: ISDA has no boxes to refine, leave it out')
        super().__init__(*args, **kwargs)
        self.mask_feat_source = mask_feat_source
        self.mask_feat_head = MODELS.build(mask_feat_head)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the neck's maps.

        Args:
            batch_inputs: (B, 3, H, W), normalised; H and W are multiples of 32.

        Returns:
            L + 1 maps (B, C, H / s, W / s), strides s = 4, 8, 16, 32, 64.

        Raises:
            ModelConfigError: if H or W is no multiple of 32.
        """
        height, width = batch_inputs.shape[-2:]
        if height % 32 or width % 32:
            raise ModelConfigError(
                f'batch_inputs: height and width must be multiples of 32, got {height} x {width}; '
                'set pad_size_divisor=32 in the data_preprocessor of the model'
            )
        return super().extract_feat(batch_inputs)

    def pre_decoder(
        self, memory: Tensor, memory_mask: Tensor, spatial_shapes: Tensor
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make the decoder's inputs; keep the memory where the mask features need it."""
        decoder_inputs, _ = super().pre_decoder(memory, memory_mask, spatial_shapes)
        head_inputs = {'memory': memory} if self.mask_feat_source == 'encoder' else {}
        return decoder_inputs, head_inputs

    def forward_transformer(
        self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None
    ) -> dict[str, Any]:
        """Run mask feature branch, encoder and decoder.

        Args:
            img_feats: L + 1 maps of the neck.
            batch_data_samples: B samples with ``batch_input_shape`` and ``img_shape`` in their
                metainfo; None means that no image is padded.

        Returns:
            ``hidden_states`` (layers, B, Q, C), ``references`` (a list of layers + 1 tensors
            (B, Q, 2) as (x, y) in [0, 1]) and ``mask_feature`` (B, C, H/4, W/4).
        """
        if batch_data_samples is None:
            batch_data_samples = unpadded_samples(img_feats[0], stride=4)
        transformer_feats = img_feats[-self.num_feature_levels :]
        head_inputs = super().forward_transformer(transformer_feats, batch_data_samples)
        mask_feats = img_feats[:-1]
        if self.mask_feat_source == 'encoder':
            memory = head_inputs.pop('memory')
            mask_feats = (img_feats[0], *_maps_of_memory(memory, mask_feats[1:]))
        head_inputs['mask_feature'] = self.mask_feat_head(mask_feats)
        return head_inputs


def _maps_of_memory(memory: Tensor, like: tuple[Tensor, ...]) -> list[Tensor]:
    """Cut the encoder memory (B, S, C) into maps of the sizes of ``like``, the first levels."""
    sizes = [feat.shape[-2] * feat.shape[-1] for feat in like]
    parts = torch.split(memory[:, : sum(sizes)], sizes, dim=1)
    return [part.mT.reshape(feat.shape) for part, feat in zip(parts, like, strict=True)]
