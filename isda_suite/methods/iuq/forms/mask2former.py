"""Mask2Former for export: the best queries of every image with the logits of their masks."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import EXPORT_FORMS, InstanceForm
from isda_suite.layers.module_twins import with_attributes, with_children
from isda_suite.layers.open_points import OpenPointGenerator
from isda_suite.ops import MultiScaleDeformableAttention


@EXPORT_FORMS.register_module()
class Mask2FormerExport(InstanceForm):
    """Images to class scores, labels and mask logits at a quarter of the size.

    mmdet multiplies a class score by the mean probability inside of the mask at the size of the
    original image, which a graph does not know: that factor is left to the reader, and so is the
    order of the detections. With classes of stuff, those have the score -1.

    Args:
        model: A Mask2Former of mmdet that predicts instances.
        batch_size: B.

    Raises:
        ModelConfigError: for a model that predicts no instances, or another pixel decoder.
    """

    detectors: ClassVar[tuple[str, ...]] = ('Mask2Former',)
    results: ClassVar[str] = 'image_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'mask_logits')

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        fusion, head = model.panoptic_fusion_head, model.panoptic_head
        if not fusion.test_cfg.get('instance_on', False):
            raise ModelConfigError(
                'test_cfg.instance_on: expected True, instances are what is exported'
            )
        kind = type(head.pixel_decoder).__name__
        if kind != 'MSDeformAttnPixelDecoder':
            raise ModelConfigError(
                f'panoptic_head.pixel_decoder: expected MSDeformAttnPixelDecoder, got {kind}'
            )
        self.max_per_image = int(fusion.test_cfg.get('max_per_image', 100))
        self.num_things = int(fusion.num_things_classes)
        self.num_classes = int(fusion.num_classes)
        self.head = with_children(head, pixel_decoder=OpenPixelDecoder(head.pixel_decoder))

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Tensor, ...]]:
        """Give class logits (Q, classes + 1) and mask logits (Q, H/4, W/4) of the last layer."""
        feats = self.model.extract_feat(self.image_input(images, sizes))
        cls_logits, mask_logits = self.head(feats, None)
        return zip(cls_logits[-1], mask_logits[-1], strict=True)

    def decode(self, cls_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, ...]:
        """Choose the best pairs of query and class."""
        scores = cls_logits.float().softmax(-1)[:, :-1].flatten()
        scores, places = scores.topk(self.max_per_image)
        queries, labels = places // self.num_classes, places % self.num_classes
        if self.num_things < self.num_classes:
            scores = torch.where(labels < self.num_things, scores, -1)
        return scores, labels, mask_logits[queries]

    def describe(self) -> dict[str, Any]:
        """Return the thresholds; a mask is where its logits are above 0."""
        return {'mask_thr': 0.5, 'score_thr': 0.0, 'mask_stride': 4}


class OpenPixelDecoder(nn.Module):
    """mmdet's ``MSDeformAttnPixelDecoder`` with sizes as numbers, which may stay free.

    mmdet makes a tensor of them and reads it again, which no graph can hold.

    Args:
        decoder: The decoder, whose weights are shared.
    """

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        layers = [
            with_children(layer, self_attn=open_attention(layer.self_attn))
            for layer in decoder.encoder.layers
        ]
        encoder = with_children(decoder.encoder, layers=nn.ModuleList(layers))
        points = OpenPointGenerator(decoder.point_generator)
        self.decoder = with_children(
            with_attributes(decoder, point_generator=points), encoder=encoder
        )

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Compute what the decoder computes.

        Args:
            feats: Maps of the backbone (B, ·, h, w), finest first.

        Returns:
            The mask feature (B, C, H/4, W/4), and the maps for the transformer, coarsest first.
        """
        decoder: Any = self.decoder
        coarse = list(feats)[: -decoder.num_encoder_levels - 1 : -1]
        maps = self._encode(coarse)
        for i in reversed(range(len(decoder.lateral_convs))):
            own = decoder.lateral_convs[i](feats[i])
            finer = own + F.interpolate(maps[-1], own.shape[-2:], mode='bilinear')
            maps.append(decoder.output_convs[i](finer))
        return decoder.mask_feature(maps[-1]), maps[: decoder.num_outs]

    def _encode(self, feats: list[Tensor]) -> list[Tensor]:
        """Let the coarsest maps exchange what they see; the same number of maps (B, C, h, w)."""
        decoder: Any = self.decoder
        tokens, positions, points = [], [], []
        for i, feat in enumerate(feats):
            level = decoder.num_input_levels - i - 1
            nowhere = feat.new_zeros((len(feat), *feat.shape[-2:]), dtype=torch.bool)
            place = decoder.postional_encoding(nowhere)
            place = place + decoder.level_encoding.weight[i][:, None, None]
            tokens.append(decoder.input_convs[i](feat).flatten(2).mT)
            positions.append(place.flatten(2).mT)
            points.append(_centres(decoder, feat, level))
        shapes = [(feat.shape[2], feat.shape[3]) for feat in feats]
        places = torch.cat(points)[None, :, None]
        memory = decoder.encoder(
            query=torch.cat(tokens, 1),
            query_pos=torch.cat(positions, 1),
            key_padding_mask=None,
            spatial_shapes=shapes,
            level_start_index=None,
            valid_ratios=None,
            reference_points=places.repeat(len(feats[0]), 1, len(feats), 1),
        )
        parts = memory.mT.split([h * w for h, w in shapes], -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]


def _centres(decoder: Any, feat: Tensor, level: int) -> Tensor:
    """Compute the centres (h * w, 2) of the cells of a map as (x, y), 0..1."""
    height, width = feat.shape[-2:]
    points: Tensor = decoder.point_generator.single_level_grid_priors(
        (height, width), level, device=feat.device
    )
    stride = decoder.strides[level]
    sides = [torch.full((), n * stride, device=feat.device) for n in (width, height)]
    return points / torch.stack(sides)


def open_attention(attention: Any) -> MultiScaleDeformableAttention:
    """Give mmcv's deformable attention the operator of the suite, which takes sizes as numbers.

    Args:
        attention: A ``MultiScaleDeformableAttention``, whose weights are shared.
    """
    if isinstance(attention, MultiScaleDeformableAttention):
        return attention
    with torch.device('meta'):  # neither memory nor random numbers for weights of its own
        twin = MultiScaleDeformableAttention(
            attention.embed_dims,
            attention.num_heads,
            attention.num_levels,
            attention.num_points,
            batch_first=attention.batch_first,
            value_proj_ratio=attention.value_proj.out_features / attention.embed_dims,
        )
    twin._modules = dict(attention._modules)
    return twin.train(attention.training)
