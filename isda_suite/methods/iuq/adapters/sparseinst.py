"""SparseInst, a project of mmdet outside its package: kernels and mask features of its decoder."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isda_suite.layers.mask_coverage import bitmap_of
from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    DotProductAdapter,
    QueryRecord,
    Taps,
    recording,
)


@QUERY_ADAPTERS.register_module()
class SparseInstAdapter(DotProductAdapter):
    """Adapter of the detector ``SparseInst``, wherever its class was imported from.

    It needs of the detector: ``decoder.inst_branch`` (returns class logits, kernels (B, Q, C), …),
    ``decoder.mask_branch`` (returns (B, C, h, w)), and ``criterion`` with its matcher, a callable
    ``matcher`` or ``assigner`` that returns for each image query and target indices, and with
    ``loss_mask`` and ``loss_dice``.
    """

    heads = ('SparseInst',)

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take kernels, mask features and the matching."""
        criterion = self.head.criterion
        name = 'matcher' if hasattr(criterion, 'matcher') else 'assigner'

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            instances = taps.outputs_of(self.head.decoder.inst_branch)
            features = taps.outputs_of(self.head.decoder.mask_branch)
            matcher = getattr(criterion, name)
            matched = taps.outputs_of(matcher) if isinstance(matcher, nn.Module) else None
            calls = None if matched is not None else taps.calls_of(criterion, name)

            def read() -> list[QueryRecord]:
                pairs = matched[-1] if matched is not None else (calls or [])[-1].result
                kernels, maps = instances[-1][1], features[-1]
                records = []
                for i, (query_inds, gt_inds) in enumerate(pairs):
                    gt_inds = torch.as_tensor(gt_inds, device=maps.device)
                    query_inds = torch.as_tensor(query_inds, device=maps.device)
                    context = dict(gt_instances=samples[i].gt_instances)
                    records.append(QueryRecord(kernels[i][query_inds], gt_inds, maps[i], context))
                return records

            return read

        return recording(tap)

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the criterion's BCE and dice at the resolution of the mask features."""
        masks = torch.cat(logits).flatten(1)
        if len(masks) == 0:
            return masks.sum() * 0
        targets = []
        for record, one in zip(records, logits, strict=True):
            size_hw = (one.shape[-2], one.shape[-1])
            found = record.context['gt_instances'].masks
            canvas_hw = record.context.get('canvas_hw') or (found.height, found.width)
            bitmap = bitmap_of(found, canvas_hw, one.device)[record.gt_inds]
            targets.append(F.interpolate(bitmap[:, None].float(), size_hw, mode='bilinear')[:, 0])
        target = torch.cat(targets).flatten(1)
        criterion = self.head.criterion
        dice: Tensor = criterion.loss_dice(masks, target, avg_factor=float(len(masks)))
        cross_entropy: Tensor = criterion.loss_mask(
            masks.reshape(-1), target.reshape(-1), avg_factor=float(target.numel())
        )
        return dice + cross_entropy

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss."""
        return float(self.head.criterion.loss_dice.loss_weight)
