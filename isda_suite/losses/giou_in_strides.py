"""The box loss of AdelaiDet's FCOS, which differs from mmdet's."""

from typing import Any

import torch
from torch import Tensor, nn

from isda_suite.registry import MODELS


@MODELS.register_module()
class GIoUInStridesLoss(nn.Module):
    r"""Compute the generalised IoU loss with one added to intersection and union.

    .. math:: 1 - \left(\frac{I + 1}{U + 1} - \frac{C - U}{C}\right)

    I, U and C are areas of intersection, union and enclosing box. Boxes are in units of the stride
    of their level, where the added one is a cell; it keeps tiny boxes from zero gradients.

    Args:
        loss_weight: Factor.

    Source: the published implementation of FCOS in AdelaiDet, as CondInst uses it.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Any = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: (n, 4) xyxy.
            target: (n, 4) xyxy.
            weight: (n,), or ``None`` for equal weights.
            avg_factor: What the sum is divided by; ``None`` takes n.

        Returns:
            A scalar.
        """
        low = torch.minimum(pred[:, :2], target[:, :2]), torch.maximum(pred[:, :2], target[:, :2])
        high = torch.maximum(pred[:, 2:], target[:, 2:]), torch.minimum(pred[:, 2:], target[:, 2:])
        enclosing = (high[0] - low[0]).prod(dim=1)
        intersection = (high[1] - low[1]).clamp(min=0).prod(dim=1)
        areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (pred, target)]
        union = areas[0] + areas[1] - intersection
        giou = (intersection + 1) / (union + 1) - (enclosing - union) / enclosing.clamp(min=1e-6)
        losses = 1 - giou if weight is None else (1 - giou) * weight
        total: Tensor = losses.sum() / (len(pred) if avg_factor is None else avg_factor)
        return self.loss_weight * total
