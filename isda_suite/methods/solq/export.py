"""SOLQ for export: the best queries of every image with their boxes and the masks in them."""

from typing import Any, ClassVar

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from isda_suite.layers.export_form import EXPORT_FORMS, ExportForm
from isda_suite.layers.padding import BatchSizes
from isda_suite.layers.query_selection import select_queries

from .mask_code import binarise


@EXPORT_FORMS.register_module()
class SOLQExport(ExportForm):
    """Images to scores, labels, boxes and masks inside the boxes.

    Args:
        model: A SOLQ.
        batch_size: B.
    """

    detectors: ClassVar[tuple[str, ...]] = ('SOLQ',)
    results: ClassVar[str] = 'box_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'boxes', 'masks')

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        self.options: dict[str, Any] = {
            'max_per_img': 100,
            'mask_thr': 0.5,
            'score_thr': 0.0,
            'clip_boxes': True,
        }
        self.options.update(model.bbox_head.test_cfg)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            sizes: (B, 2) int64, height and width of every image without padding.

        Returns:
            ``scores`` (B, N) in descending order, ``labels`` (B, N) int64, ``boxes`` (B, N, 4)
            xyxy in pixels of the input, not clipped, and ``masks`` (B, N, side, side) uint8 of 0
            and 1, each across its box.
        """
        head = self.model.bbox_head
        feats = self.model.extract_feat(self.image_input(images, sizes))
        batch = BatchSizes((images.shape[2], images.shape[3]), sizes)
        logits, boxes, codes = (x[-1] for x in head(**self.model.forward_transformer(feats, batch)))
        sides = sizes.flip(1).repeat(1, 2).to(boxes.dtype)
        found = []
        for i in range(len(logits)):
            scores, labels, queries = select_queries(logits[i].float(), self.options['max_per_img'])
            pixels = bbox_cxcywh_to_xyxy(boxes[i][queries]) * sides[i]
            masks = binarise(head.mask_coder.decode(codes[i][queries])).byte()
            found.append((scores, labels, pixels, masks))
        return tuple(torch.stack(values) for values in zip(*found, strict=True))

    def describe(self) -> dict[str, Any]:
        """Return the thresholds; masks are pasted into whole boxes, which are clipped after."""
        return {
            'mask_thr': self.options['mask_thr'],
            'score_thr': self.options['score_thr'],
            'clip_boxes': 'after' if self.options['clip_boxes'] else 'never',
        }
