"""CondInst: the dynamic parameters of a positive location are the query, a small network of it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmdet.models.dense_heads import CondInstBboxHead, CondInstMaskHead
from mmdet.models.detectors import CondInst
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    QueryAdapter,
    QueryRecord,
    Taps,
    finest,
    recording,
    runs_methods_of,
)


@QUERY_ADAPTERS.register_module()
class CondInstAdapter(QueryAdapter):
    """Adapter of mmdet's ``CondInstMaskHead``.

    A query is the 169 parameters of a network of three layers; it answers to the 8 mask features
    of a pixel and to where the pixel lies, seen from an instance. A stored pixel keeps its place
    relative to the instance it belongs to, so queries meet what looks like the inside of an
    instance, wherever that was in its image.
    """

    heads = ('CondInstMaskHead',)
    per_query = ('info',)

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take the positive locations with their parameters, and the mask feature."""
        head = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            features = taps.outputs_of(head.mask_feature_head)
            positives = taps.calls_of(detector.bbox_head, 'get_positive_infos')

            def read() -> list[QueryRecord]:
                return [
                    QueryRecord(
                        info.param_preds,
                        info.pos_assigned_gt_inds,
                        features[-1][i],
                        dict(
                            info=info,
                            gt_instances=samples[i].gt_instances,
                            meta=samples[i].metainfo,
                        ),
                    )
                    for i, info in enumerate(positives[-1].result)
                ]

            return read

        return recording(tap)

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out masks, losses, and classes unless the mask loss chooses queries by them."""
        head: Any = self.head
        boxes: Any = detector.bbox_head
        if not runs_methods_of(detector, CondInst, 'loss'):
            return
        if runs_methods_of(head, CondInstMaskHead, 'forward', 'loss'):
            taps.replace(head.mask_feature_head, 'forward', lambda maps: maps[0])
            taps.replace(head, 'forward_single', lambda *_: (None,))
            taps.replace(head, 'loss_by_feat', lambda *_, **__: {})
        methods = ('_init_layers', 'forward', 'forward_single', 'loss', 'loss_by_feat')
        if not runs_methods_of(boxes, CondInstBboxHead, *methods, 'get_positive_infos'):
            return
        for loss in (boxes.loss_cls, boxes.loss_bbox, boxes.loss_centerness):
            taps.replace(loss, 'forward', lambda values, *_, **__: values.new_zeros(()))
        if head.topk_masks_per_img == -1:
            for layer in boxes.cls_convs:
                taps.replace(layer, 'forward', lambda values: values)
            taps.replace(boxes.conv_cls, 'forward', _no_class(boxes.cls_out_channels))

    def respond(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Run every query's network on every stored pixel.

        Args:
            queries: (N, 169).
            rows: (P, 10), relative coordinates first.

        Returns:
            (N, P).
        """
        head, n = self.head, len(queries)
        parts = torch.split(queries, [*head.weight_nums, *head.bias_nums], dim=1)
        values = rows.T.expand(n, -1, -1)
        for layer in range(head.num_layers):
            weight, bias = parts[layer], parts[layer + head.num_layers]
            values = weight.view(n, bias.shape[1], -1) @ values + bias[..., None]
            if layer < head.num_layers - 1:
                values = values.relu()
        return values[:, 0]

    def respond_map(self, record: QueryRecord, pixels: Tensor) -> Tensor:
        """Run the head on a map; coordinates are those of the record's own frame."""
        info = record.context['info']
        positive = InstanceData(
            param_preds=record.queries, points=info.points, strides=info.strides
        )
        masks: Tensor = self.head.forward_single(pixels, positive)[0]
        # The head returns one axis too many when there is nothing to do.
        return masks.flatten(0, 1) if len(record.queries) == 0 else masks

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the head's dice loss."""
        contexts = [record.context for record in records]
        losses = self.head.loss_by_feat(
            logits,
            [context['gt_instances'] for context in contexts],
            [context['meta'] for context in contexts],
            [context['info'] for context in contexts],
        )
        # The head makes new zeros where it has no query, which no gradient reaches.
        parts = [*logits, *(record.queries for record in records)]
        connected = sum((one.sum() * 0 for one in parts), logits[0].new_zeros(()))
        loss: Tensor = losses['loss_mask'] + connected
        return loss

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss."""
        return float(self.head.loss_mask.loss_weight)

    def embed(self, record: QueryRecord, gt_inds: Tensor, cells: Tensor) -> Tensor:
        """Make rows of relative coordinates and mask features, (P, 10)."""
        pixels = finest(record.pixels)
        stride = self.head.mask_feat_stride
        width = pixels.shape[-1]
        at = torch.stack([cells % width, cells // width], dim=1) * stride + stride // 2
        points, sizes = self._places(record)
        relative = (points[gt_inds] - at) / sizes[gt_inds, None]
        return torch.cat([relative.to(pixels.dtype), pixels.flatten(1)[:, cells].T], dim=1)

    def _places(self, record: QueryRecord) -> tuple[Tensor, Tensor]:
        """Choose a positive location of every instance; its centre where it has none.

        Returns:
            (G, 2) points in pixels and (G,) sizes by which distances are divided.
        """
        context, size = record.context, self.head.size_of_interest
        boxes = context['gt_instances'].bboxes
        points = (boxes[:, :2] + boxes[:, 2:]) / 2
        # FCOS' ranges: a level of stride s is for objects up to 8 s from the location to a side.
        longest = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / 2
        strides = 8 * 2 ** (longest / 64).clamp(min=1).log2().ceil().clamp(max=4)
        info = context['info']
        if len(info.points):
            order = torch.randperm(len(info.points), device=boxes.device)
            owner = record.gt_inds[order]
            points = points.index_copy(0, owner, info.points[order].to(points.dtype))
            strides = strides.index_copy(0, owner, info.strides[order].to(strides.dtype))
        return points, strides * size


def _no_class(num_classes: int) -> Callable[[Tensor], Tensor]:
    """Make what gives logits of 0 for maps (B, C, h, w)."""
    return lambda values: values.new_zeros((len(values), num_classes, *values.shape[-2:]))
