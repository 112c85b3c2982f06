"""How IUQ trains ISDA's queries."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    DotProductAdapter,
    QueryRecord,
    Taps,
    recording,
    runs_methods_of,
)

from .detector import ISDA
from .head import ISDAHead


@QUERY_ADAPTERS.register_module()
class ISDAAdapter(DotProductAdapter):
    """Adapter of :class:`ISDAHead`: kernels of the last decoder layer that have a target."""

    heads = ('ISDAHead',)

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take kernels and mask feature, and the matching of the last layer."""
        head = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            outputs = taps.outputs_of(head)
            matched = taps.calls_of(head, 'match')

            def read() -> list[QueryRecord]:
                _, kernels, feature = outputs[-1]
                last = matched[-1]
                return [
                    QueryRecord(
                        kernels[-1, i][match.query_inds],
                        match.gt_inds,
                        feature[i],
                        dict(targets=target.masks[match.gt_inds]),
                    )
                    for i, (match, target) in enumerate(zip(last.result, last.args[3], strict=True))
                ]

            return read

        return recording(tap)

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out losses and the matching of earlier layers."""
        head = self.head
        known = runs_methods_of(head, ISDAHead, 'forward', 'loss', 'loss_by_feat')
        if not (known and runs_methods_of(detector, ISDA, 'loss')):
            return

        def match_last(
            all_cls: Tensor, all_kernels: Tensor, feature: Tensor, gts: Sequence[Any], *_: Any
        ) -> dict[str, Tensor]:
            targets = [head.targets_of(gt, feature) for gt in gts]
            head.match(all_cls[-1], all_kernels[-1], feature, targets)
            return {}

        taps.replace(head, 'loss_by_feat', match_last)

    def respond_map(self, record: QueryRecord, pixels: Tensor) -> Tensor:
        """Decode mask logits as the head does, (N, h, w)."""
        return decode_mask_logits(record.queries, pixels)

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the head's dice loss of the last layer."""
        masks = torch.cat(logits)
        # Before anything else: every rank takes part, also one without queries.
        matched = reduce_mean(masks.new_tensor(float(len(masks)))).clamp(min=1)
        if len(masks) == 0:
            return masks.sum() * 0
        targets = torch.cat([record.context['targets'] for record in records])
        loss: Tensor = self.head.loss_mask(masks.sigmoid(), targets, avg_factor=matched + 1e-5)
        return loss

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss."""
        return float(self.head.loss_mask.loss_weight)
