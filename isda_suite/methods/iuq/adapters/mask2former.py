"""Mask2Former: the mask embedding of the last stage is the query, the pixel decoder the pixels."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.detectors import Mask2Former
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    DotProductAdapter,
    QueryRecord,
    Taps,
    recording,
    runs_methods_of,
)


@QUERY_ADAPTERS.register_module()
class Mask2FormerAdapter(DotProductAdapter):
    """Adapter of mmdet's ``Mask2FormerHead``.

    Queries are the mask embeddings that the last stage matched to things; stuff is no instance and
    takes no part.
    """

    heads = ('Mask2FormerHead',)

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take mask features, the embeddings of the last stage, and its matching."""
        head = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            decoded = taps.outputs_of(head.pixel_decoder)
            embeddings = taps.outputs_of(head.mask_embed)
            matched = taps.calls_of(head, '_get_targets_single')
            forwards = taps.calls_of(head, 'forward')
            layers = [taps.outputs_of(layer) for layer in head.transformer_decoder.layers]

            def read() -> list[QueryRecord]:
                features, queries = decoded[-1][0], embeddings[-1]
                # Stages follow each other, images within a stage: the last B are the last stage's.
                last = matched[-len(samples) :]
                first = head.query_feat.weight.expand(len(samples), -1, -1)
                batch = dict(
                    features=forwards[-1].args[0], stages=[first, *(one[-1] for one in layers)]
                )
                records = []
                for i, sample in enumerate(samples):
                    num_things = len(sample.gt_instances)
                    record = _record_of(features[i], queries[i], last[i].result, num_things)
                    record.context['batch'] = batch
                    records.append(record)
                return records

            return read

        return recording(tap)

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out losses and the matching of earlier stages.

        Points at which masks are compared are random: fewer are drawn than in a whole pass, so
        those of the last stage are others.
        """
        head = self.head
        known = runs_methods_of(head, Mask2FormerHead, 'forward', 'loss', 'loss_by_feat')
        if not (known and runs_methods_of(detector, Mask2Former, 'loss')):
            return

        def match_last(
            all_cls: Sequence[Tensor], all_masks: Sequence[Tensor], *batch: Any
        ) -> dict[str, Tensor]:
            head.get_targets(list(all_cls[-1]), list(all_masks[-1]), *batch)
            return {}

        taps.replace(head, 'loss_by_feat', match_last)

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute BCE and dice on sampled points, as the head does after each stage."""
        from mmcv.ops import point_sample
        from mmdet.models.utils import get_uncertain_point_coords_with_randomness

        head, masks = self.head, torch.cat(logits)
        # Before anything else: every rank takes part, also one without queries.
        total = max(float(reduce_mean(masks.new_tensor([float(len(masks))]))), 1.0)
        if len(masks) == 0:
            return masks.sum() * 0
        targets = torch.cat([record.context['targets'] for record in records])
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                masks[:, None],
                None,
                head.num_points,
                head.oversample_ratio,
                head.importance_sample_ratio,
            )
            at_points = point_sample(targets[:, None].to(masks.dtype), points).squeeze(1)
        predicted = point_sample(masks[:, None], points).squeeze(1)
        dice: Tensor = head.loss_dice(predicted, at_points, avg_factor=total)
        cross_entropy: Tensor = head.loss_mask(
            predicted.reshape(-1), at_points.reshape(-1), avg_factor=total * head.num_points
        )
        return cross_entropy + dice

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the BCE term."""
        return float(self.head.loss_mask.loss_weight)


def _record_of(feature: Tensor, queries: Tensor, matched: Any, num_things: int) -> QueryRecord:
    """Make the record of one image from the tuple that ``_get_targets_single`` returned."""
    targets, query_inds, sampling = matched[2], matched[4], matched[6]
    gt_inds = sampling.pos_assigned_gt_inds
    things = gt_inds < num_things
    return QueryRecord(
        queries[query_inds[things]], gt_inds[things], feature, dict(targets=targets[things])
    )
