"""How IUQ trains IDIP's dynamic masks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    QueryAdapter,
    QueryRecord,
    Taps,
    recording,
)
from isda_suite.layers.region_features import extract_rois

from .head import side_of
from .loss import mask_targets


@QUERY_ADAPTERS.register_module()
class IDIPAdapter(QueryAdapter):
    """Adapter of :class:`IDIPHead`; the last stage alone takes part.

    A query is the feature of a matched proposal, which becomes a dynamic convolution on the region
    of a box, with the label of its target behind it: the head predicts one mask per class and this
    chooses it. That the boxes are denoised and not learnt makes no difference here. What is stored
    is the region of an instance (C x R x R features), so a row stands for R * R pixels; answering
    runs the mask head on every pair, so a step reads few of them.

    BatchNorm in the mask head keeps the statistics of its own images: responses are computed with
    the running ones, as in inference, and do not move them.
    """

    heads = ('IDIPHead',)
    max_rows = 4
    per_query = ('boxes',)

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self.side = side_of(head.mask_roi_extractor)
        self.row_pixels = self.side**2

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take proposal features, boxes and the matching of the last stage, and the maps."""
        head = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            losses = taps.calls_of(head, 'loss')
            matched = taps.calls_of(head.criterion, 'match')

            def read() -> list[QueryRecord]:
                maps, stages, targets = losses[-1].args[:3]
                last = stages[-1]
                return [
                    _record_of(last, i, match, targets[i], [level[i] for level in maps])
                    for i, match in enumerate(matched[-1].result)
                ]

            return read

        return recording(tap)

    def respond(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Run the mask head of every query on every stored region.

        Args:
            queries: (N, C + 1), the last number is the label.
            rows: (P, C * R * R).

        Returns:
            (N, P, 2 R, 2 R).
        """
        n, p = len(queries), len(rows)
        regions = rows.view(p, -1, self.side, self.side).repeat(n, 1, 1, 1)
        masks = self._masks(regions, queries.repeat_interleave(p, dim=0))
        return masks.view(n, p, *masks.shape[-2:])

    def respond_map(self, record: QueryRecord, pixels: Any) -> Tensor:
        """Cut the record's boxes out of other maps and run the mask head, (N, 2 R, 2 R)."""
        return self._masks(self._regions(pixels, record.context['boxes']), record.queries)

    def _regions(self, pixels: Any, boxes: Tensor) -> Tensor:
        rois = torch.cat([boxes.new_zeros((len(boxes), 1)), boxes], dim=1)
        maps = [level[None].float() for level in pixels]
        return extract_rois(self.head.mask_roi_extractor, maps, rois)

    def _masks(self, regions: Tensor, queries: Tensor) -> Tensor:
        head = self.head.mask_head
        with _own_statistics(head):
            labels = queries[:, -1].detach().long()
            masks: Tensor = head(regions, queries[:, :-1].to(regions.dtype), labels)
        # The label is a number of the query too, and every query is connected.
        return masks + queries[:, -1:, None] * 0

    def boxes_of(self, record: QueryRecord, canvas_hw: tuple[int, int]) -> Tensor:
        """Give the boxes of the regions, see :meth:`QueryAdapter.boxes_of`."""
        boxes: Tensor = record.context['boxes']
        return boxes

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the head's dice loss of the last stage."""
        masks, criterion = torch.cat(logits), self.head.criterion
        # Before anything else: every rank takes part, also one without queries.
        count = criterion.count([record.context['match'] for record in records])
        targets = torch.cat(
            [
                mask_targets(c['masks'], c['boxes'], c['match'].gt_inds, masks.shape[-1])
                for c in (record.context for record in records)
            ]
        )
        loss: Tensor = criterion.loss_mask(masks, targets, masks.new_ones(len(masks)) / count)
        return loss

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss."""
        return float(self.head.criterion.loss_mask.loss_weight)

    def rows_of(self, record: QueryRecord) -> tuple[Tensor, Tensor] | None:
        """Give the region of one positive of every instance that has one."""
        order = torch.randperm(len(record.gt_inds), device=record.gt_inds.device)
        gt_inds, place = torch.unique(record.gt_inds[order], return_inverse=True)
        chosen = order.new_zeros(len(gt_inds)).index_copy(0, place, order)
        boxes = record.context['boxes'][chosen]
        return self._regions(record.pixels, boxes).flatten(1), gt_inds


def _record_of(stage: Any, image: int, match: Any, target: Any, maps: list[Tensor]) -> QueryRecord:
    """Make the record of one image of a stage."""
    features = stage.features[image, match.proposal_inds]
    labels = target.labels[match.gt_inds].to(features.dtype)
    return QueryRecord(
        torch.cat([features, labels[:, None]], dim=1),
        match.gt_inds,
        tuple(maps),
        dict(
            boxes=stage.boxes[image, match.proposal_inds].detach(),
            masks=target.masks,
            match=match,
        ),
    )


@contextmanager
def _own_statistics(head: Any) -> Iterator[None]:
    """Let the block use running statistics and keep its results for the backward pass.

    Results that are computed again later would be computed with those of the batch.
    """
    norms = [m for m in head.modules() if isinstance(m, _BatchNorm) and m.training]
    with_cp = head.with_cp
    for norm in norms:
        norm.training = False
    head.with_cp = False
    try:
        yield
    finally:
        head.with_cp = with_cp
        for norm in norms:
            norm.training = True
