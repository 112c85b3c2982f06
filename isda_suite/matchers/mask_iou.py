"""Matching cost from the soft intersection over union of masks."""

from typing import Any

from mmdet.models.task_modules.assigners.match_cost import BaseMatchCost
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.registry import TASK_UTILS


def soft_mask_iou(pred_masks: Tensor, gt_masks: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Compute the soft IoU of every predicted with every target mask.

    .. math:: \mathrm{IoU}_{qg} = \frac{I}{\sum m + \sum t - I + \epsilon}, \quad
        I = \sum_{yx} m_{qyx} t_{gyx}

    Shapes: Q predictions, G targets, (H, W) = size of the mask maps.

    Args:
        pred_masks: (Q, H, W) or (Q, H·W) float probabilities in [0, 1].
        gt_masks: (G, H, W) or (G, H·W) soft or binary targets in [0, 1].
        eps: Added to the denominator, so that two empty masks give 0.

    Returns:
        (Q, G) values in [0, 1], dtype of ``pred_masks``.

    Raises:
        ValueError: if the two maps differ in size.
    """
    if pred_masks.shape[1:] != gt_masks.shape[1:]:
        raise ValueError(
            f'gt_masks: expected the map size of pred_masks, {tuple(pred_masks.shape[1:])}, '
            f'got {tuple(gt_masks.shape[1:])}'
        )
    pred = pred_masks.flatten(1)
    target = gt_masks.flatten(1).to(pred)
    intersection = pred @ target.T
    union = pred.sum(1)[:, None] + target.sum(1)[None] - intersection
    return intersection / (union + eps)


@TASK_UTILS.register_module()
class MaskIoUCost(BaseMatchCost):
    """Cost ``weight * (1 - soft IoU)`` between predicted probabilities and soft target masks.

    An all-zero target costs exactly ``weight`` for every query, so that only the other costs
    decide who gets it.

    Args:
        weight: Factor of the cost, >= 0.
        eps: Added to the denominator of the IoU.

    Source: ISDA (arXiv:2202.12251), matching by class and mask.
    """

    def __init__(self, weight: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__(weight=weight)
        self.eps = eps

    def __call__(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the cost matrix.

        Args:
            pred_instances: ``masks`` (Q, H, W) probabilities.
            gt_instances: ``masks`` (G, H, W) targets of the same map size.
            img_meta: Not used.
            **kwargs: Not used.

        Returns:
            (Q, G) costs.
        """
        iou = soft_mask_iou(pred_instances.masks, gt_instances.masks, self.eps)
        return self.weight * (1 - iou)
