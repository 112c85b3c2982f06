"""QueryInst for export: the best queries of every image with their boxes and the masks in them."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from mmdet.structures.bbox import bbox2roi, bbox_cxcywh_to_xyxy
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import EXPORT_FORMS, InstanceForm
from isda_suite.layers.region_features import extract_rois


@EXPORT_FORMS.register_module()
class QueryInstExport(InstanceForm):
    """Images to scores, labels, boxes, and mask probabilities inside the boxes.

    As in mmdet the detections are the best pairs of query and class, without suppression.

    Args:
        model: A QueryInst of mmdet.
        batch_size: B.

    Raises:
        ModelConfigError: for a model without masks.
    """

    detectors: ClassVar[tuple[str, ...]] = ('QueryInst',)
    results: ClassVar[str] = 'box_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'boxes', 'masks')

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        if not model.roi_head.with_mask:
            raise ModelConfigError('roi_head.mask_head: a model without masks is not exported')
        self.options = model.roi_head.test_cfg

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Tensor, ...]]:
        """Give class logits (Q, classes), boxes (Q, 4) and mask logits (Q, classes or 1, h, w)."""
        head, start = self.model.roi_head, self.model.rpn_head
        feats = self.model.extract_feat(self.image_input(images, sizes))
        sides = sizes.flip(1).repeat(1, 2).to(feats[0].dtype)[:, None]
        boxes = bbox_cxcywh_to_xyxy(start.init_proposal_bboxes.weight) * sides
        features = start.init_proposal_features.weight.repeat(len(boxes), 1, 1)
        for box_head, extractor in zip(head.bbox_head, head.bbox_roi_extractor, strict=True):
            regions = _regions(extractor, feats, boxes)
            logits, deltas, features, attended = box_head(regions, features)
            coder = box_head.bbox_coder
            moved = coder.decode(boxes.flatten(0, 1), deltas.flatten(0, 1))
            boxes = moved.view_as(boxes)
            if coder.clip_border:
                boxes = boxes.clamp(min=0).minimum(sides)
        masks = head.mask_head[-1](_regions(head.mask_roi_extractor[-1], feats, boxes), attended)
        return zip(logits, boxes, masks.unflatten(0, logits.shape[:2]), strict=True)

    def decode(self, logits: Tensor, boxes: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        """Choose the best queries; boxes are not clipped, each mask lies across its box."""
        head = self.model.roi_head.bbox_head[-1]
        sigmoid = head.loss_cls.use_sigmoid
        scores = logits.float().sigmoid() if sigmoid else logits.float().softmax(-1)[:, :-1]
        scores, places = scores.flatten().topk(self.options.max_per_img)
        queries, labels = places // head.num_classes, places % head.num_classes
        agnostic = self.model.roi_head.mask_head[-1].class_agnostic
        chosen = masks[queries, 0] if agnostic else masks[queries, labels]
        return scores, labels, boxes[queries], chosen.sigmoid()

    def describe(self) -> dict[str, Any]:
        """Return the threshold of the masks."""
        return {
            'mask_thr': self.options.mask_thr_binary,
            'score_thr': 0.0,
            'clip_boxes': 'never',
        }


def _regions(extractor: Any, feats: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Take the features of boxes (B, Q, 4): (B * Q, C, R, R)."""
    return extract_rois(extractor, feats[: extractor.num_inputs], bbox2roi(list(boxes)))
