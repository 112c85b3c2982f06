"""QueryInst: the query is a dynamic convolution on features of a region of interest."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    QueryAdapter,
    QueryRecord,
    Taps,
    recording,
)


@QUERY_ADAPTERS.register_module()
class QueryInstAdapter(QueryAdapter):
    """Adapter of mmdet's ``SparseRoIHead`` with masks; the last stage alone takes part.

    What is stored is the region of an instance (256 x 14 x 14 features), so a row stands for 196
    pixels, and the memory holds that many fewer rows. Answering runs the mask head on every pair,
    so a step reads few of them. The label of the query stands behind its features: the head
    predicts one mask per class and this chooses it.
    """

    heads = ('SparseRoIHead',)
    row_pixels = 196
    max_rows = 4
    per_query = ('boxes', 'targets', 'regions')

    @property
    def _mask_head(self) -> Any:
        return self.head.mask_head[-1]

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take attention features, regions and targets of the positives of the last stage."""
        head = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            forwards = taps.calls_of(head, '_mask_forward')
            losses = taps.calls_of(head, 'mask_loss')
            regions = taps.outputs_of(head.mask_roi_extractor[-1])

            def read() -> list[QueryRecord]:
                _, maps, rois, features = forwards[-1].args
                found = losses[-1].kwargs['bbox_results']['sampling_results']
                targets = losses[-1].result['mask_targets']
                labels = torch.cat([one.pos_gt_labels for one in found])
                queries = torch.cat(
                    [
                        features.reshape(len(labels), features.shape[-1]),
                        labels[:, None].to(features.dtype),
                    ],
                    dim=1,
                )
                parts = (queries, rois[:, 1:], targets, regions[-1].flatten(1))
                sizes = [len(one.pos_inds) for one in found]
                split = zip(*(part.split(sizes) for part in parts), strict=True)
                return [
                    QueryRecord(
                        own,
                        one.pos_assigned_gt_inds,
                        tuple(level[i] for level in maps),
                        dict(boxes=boxes, targets=masks, regions=rows),
                    )
                    for i, (one, (own, boxes, masks, rows)) in enumerate(
                        zip(found, split, strict=True)
                    )
                ]

            return read

        return recording(tap)

    def respond(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Run the mask head of every query on every stored region.

        Args:
            queries: (N, 257), the last number is the label.
            rows: (P, 256 * 14 * 14).

        Returns:
            (N, P, 28, 28).
        """
        n, p, side = len(queries), len(rows), self._mask_head.roi_feat_size[0]
        regions = rows.view(p, -1, side, side).repeat(n, 1, 1, 1)
        masks = self._masks(regions, queries.repeat_interleave(p, dim=0))
        return masks.view(n, p, *masks.shape[-2:])

    def respond_map(self, record: QueryRecord, pixels: Any) -> Tensor:
        """Cut the record's regions out of other maps and run the mask head, (N, 28, 28)."""
        boxes = record.context['boxes']
        rois = torch.cat([boxes.new_zeros((len(boxes), 1)), boxes], dim=1)
        extractor = self.head.mask_roi_extractor[-1]
        maps = tuple(level[None] for level in pixels[: extractor.num_inputs])
        return self._masks(extractor(maps, rois), record.queries)

    def boxes_of(self, record: QueryRecord, canvas_hw: tuple[int, int]) -> Tensor:
        """Give the boxes of the regions, see :meth:`QueryAdapter.boxes_of`."""
        boxes: Tensor = record.context['boxes']
        return boxes

    def _masks(self, regions: Tensor, queries: Tensor) -> Tensor:
        masks = self._mask_head(regions, queries[:, :-1])
        every = torch.arange(len(masks), device=masks.device)
        chosen: Tensor = masks[every, queries[:, -1].detach().long()]
        return chosen + queries[:, -1:, None] * 0

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the head's dice loss of the last stage."""
        masks = torch.cat(logits)
        # Before anything else: every rank takes part, also one without queries.
        total = reduce_mean(masks.new_tensor(float(len(masks)))).clamp(min=1).item()
        if len(masks) == 0:
            return masks.sum() * 0
        targets = torch.cat([record.context['targets'] for record in records])
        loss = self._mask_head.loss_mask(masks.sigmoid(), targets, avg_factor=total)
        weighted: Tensor = loss * self.head.stage_loss_weights[-1]
        return weighted

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss of the last stage."""
        return float(self._mask_head.loss_mask.loss_weight * self.head.stage_loss_weights[-1])

    def rows_of(self, record: QueryRecord) -> tuple[Tensor, Tensor] | None:
        """Give the region of one positive of every instance that has one."""
        order = torch.randperm(len(record.gt_inds), device=record.gt_inds.device)
        owners = record.gt_inds[order]
        found, first = torch.unique(owners, return_inverse=True)
        chosen = order.new_zeros(len(found)).index_copy(0, first, order)
        return record.context['regions'][chosen], found
