"""SparseInst, a project of mmdet outside its package: kernels and mask features of its decoder."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.utils import reduce_mean
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
    ``decoder.mask_branch`` (returns (B, C, h, w)), ``decoder.scale_factor`` by which masks are
    enlarged, and ``criterion`` with its matcher, a callable ``matcher`` or ``assigner`` that gives
    for each image query and target indices, and with ``loss_mask`` and ``loss_dice``.
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
                    # Without any target in the batch the matcher gives empty floats.
                    gt_inds = torch.as_tensor(gt_inds, device=maps.device).long()
                    query_inds = torch.as_tensor(query_inds, device=maps.device).long()
                    gts = samples[i].gt_instances
                    targets = self._targets_of(gts.masks, gt_inds, maps[i])
                    context = dict(targets=targets, num_objects=len(gts))
                    records.append(QueryRecord(kernels[i][query_inds], gt_inds, maps[i], context))
                return records

            return read

        return recording(tap)

    def respond_map(self, record: QueryRecord, pixels: Tensor) -> Tensor:
        """Compute dot products, enlarged as the decoder enlarges its masks, (N, h, w)."""
        masks = super().respond_map(record, pixels)[:, None]
        return F.interpolate(masks, scale_factor=self._scale, mode='bilinear')[:, 0]

    @property
    def _scale(self) -> float:
        return float(getattr(self.head.decoder, 'scale_factor', 1.0))

    def _targets_of(self, masks: Any, gt_inds: Tensor, feature: Tensor) -> Tensor:
        """Reduce the masks of matched instances as the criterion does, (N, h, w)."""
        bitmap = bitmap_of(masks, (masks.height, masks.width), feature.device)[gt_inds]
        size_hw = [int(side * self._scale) for side in feature.shape[-2:]]
        return F.interpolate(bitmap[:, None].float(), size_hw, mode='bilinear')[:, 0]

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the criterion's BCE and dice: a mean over pixels, a sum over objects."""
        masks, criterion = torch.cat(logits).flatten(1), self.head.criterion
        # Before anything else: every rank takes part, also one without queries.
        objects = float(sum(record.context['num_objects'] for record in records))
        number = reduce_mean(masks.new_tensor(objects)).clamp(min=1)
        if len(masks) == 0:
            return masks.sum() * 0
        target = torch.cat([record.context['targets'] for record in records]).flatten(1)
        dice: Tensor = criterion.loss_dice(masks, target) / number
        cross_entropy: Tensor = criterion.loss_mask(masks, target)
        return dice + cross_entropy

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss."""
        return float(self.head.criterion.loss_dice.loss_weight)
