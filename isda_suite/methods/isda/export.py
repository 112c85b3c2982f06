"""ISDA for export: the best queries of every image with their masks at a quarter of the size."""

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.export_form import EXPORT_FORMS, InstanceForm
from isda_suite.layers.padding import BatchSizes
from isda_suite.layers.query_selection import select_queries

from .postprocess import mask_quality


@EXPORT_FORMS.register_module()
class ISDAExport(InstanceForm):
    """Images to scores, labels and mask probabilities at a quarter of the size.

    Detections below ``test_cfg.score_thr`` are not dropped, which is left to the reader.

    Args:
        model: An ISDA.
        batch_size: B.
    """

    detectors: ClassVar[tuple[str, ...]] = ('ISDA',)
    results: ClassVar[str] = 'image_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'masks')
    # The coarsest level, of stride 64, keeps more than one cell.
    least_side: ClassVar[int] = 96

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        self.options: dict[str, Any] = {
            'max_per_img': 100,
            'mask_thr': 0.5,
            'mask_score': 'foreground',
        }
        self.options.update(model.bbox_head.test_cfg)

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Tensor, ...]]:
        """Give class logits (Q, classes), kernels (Q, C) and the mask feature (C, H/4, W/4)."""
        model = self.model
        feats = model.extract_feat(self.image_input(images, sizes))
        batch = BatchSizes((images.shape[2], images.shape[3]), sizes)
        cls_logits, kernels, mask_feature = model.bbox_head(
            **model.forward_transformer(feats, batch)
        )
        return zip(cls_logits[-1], kernels[-1], mask_feature, strict=True)

    def decode(
        self, cls_logits: Tensor, kernels: Tensor, mask_feature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the best queries; masks are probabilities."""
        options = self.options
        scores, labels, queries = select_queries(cls_logits.float(), options['max_per_img'])
        masks = decode_mask_logits(kernels[queries], mask_feature).sigmoid()
        scores = scores * mask_quality(masks, options['mask_score'], options['mask_thr'])
        scores, order = scores.topk(len(scores))
        return scores, labels[order], masks[order]

    def describe(self) -> dict[str, Any]:
        """Return the thresholds."""
        return {
            'mask_thr': self.options['mask_thr'],
            'score_thr': self.options.get('score_thr', 0.0),
            'mask_stride': 4,
        }
