"""SOLQ for export: the best queries of every image with their boxes and the masks in them."""

from collections.abc import Iterable
from typing import Any, ClassVar

from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from isda_suite.layers.export_form import EXPORT_FORMS, InstanceForm
from isda_suite.layers.padding import BatchSizes
from isda_suite.layers.query_selection import select_queries

from .mask_code import binarise


@EXPORT_FORMS.register_module()
class SOLQExport(InstanceForm):
    """Images to scores, labels, boxes, and masks of 0 and 1 (uint8) inside the boxes.

    Args:
        model: A SOLQ.
        batch_size: B.
    """

    detectors: ClassVar[tuple[str, ...]] = ('SOLQ',)
    results: ClassVar[str] = 'box_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'boxes', 'masks')
    # The coarsest level, of stride 64, keeps more than one cell.
    least_side: ClassVar[int] = 96

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        self.options: dict[str, Any] = {
            'max_per_img': 100,
            'mask_thr': 0.5,
            'score_thr': 0.0,
            'clip_boxes': True,
        }
        self.options.update(model.bbox_head.test_cfg)

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Tensor, ...]]:
        """Give class logits, relative boxes, mask codes, (Q, ·) each, and the size of the image."""
        feats = self.model.extract_feat(self.image_input(images, sizes))
        batch = BatchSizes((images.shape[2], images.shape[3]), sizes)
        found = self.model.bbox_head(**self.model.forward_transformer(feats, batch))
        return zip(*(values[-1] for values in found), sizes, strict=True)

    def decode(
        self, logits: Tensor, boxes: Tensor, codes: Tensor, size_hw: Tensor
    ) -> tuple[Tensor, ...]:
        """Choose the best queries; boxes are not clipped, each mask lies across its box."""
        scores, labels, queries = select_queries(logits.float(), self.options['max_per_img'])
        sides = size_hw.flip(0).repeat(2).to(boxes.dtype)
        masks = binarise(self.model.bbox_head.mask_coder.decode(codes[queries])).byte()
        return scores, labels, bbox_cxcywh_to_xyxy(boxes[queries]) * sides, masks

    def describe(self) -> dict[str, Any]:
        """Return the thresholds; masks are pasted into whole boxes, which are clipped after."""
        return {
            'mask_thr': self.options['mask_thr'],
            'score_thr': self.options['score_thr'],
            'clip_boxes': 'after' if self.options['clip_boxes'] else 'never',
        }
