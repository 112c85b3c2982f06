"""How IUQ trains SOLQ's queries, whose masks are codes and never meet a pixel."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmcv.ops import roi_align
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import reduce_mean
from torch import Tensor, nn

from isda_suite.layers.query_adapter import (
    QUERY_ADAPTERS,
    QueryAdapter,
    QueryRecord,
    Taps,
    recording,
    runs_methods_of,
)

from .detector import SOLQ
from .head import SOLQHead

# A region is twice as wide and high as its box, as sampling points may lie outside.
_SIDE, _ENLARGED = 7, 2.0
# Decoded masks are about 0 and 1 with the border at 1/2; as logits: 2 % and 98 %.
_SLOPE = 8.0
# Every fourth row and column of a decoded mask is looked at: codes have low frequencies only.
_STEP = 4


@QUERY_ADAPTERS.register_module()
class SOLQAdapter(QueryAdapter):
    r"""Adapter of :class:`SOLQ`: a query answers by what its last layer reads in the features.

    A mask code is a function of the place inside a box; image content has no part in it, so a dot
    product of code and pixel does not exist, and to silence the code at stored *places* would fight
    the masks of the own image. Image content enters where a decoder layer attends to the encoder's
    maps. So the query is the state of the matched queries before the cross-attention of the last
    layer, and its response to features is the mask that the rest of this layer and the mask branch
    make of them:

    .. math:: \langle q, F \rangle = 8\,(A^T\,\mathrm{code}(\mathrm{layer}(q, F))\,A - 1/2)

    Uniqueness: asked about the region of an instance of another image, it has to be an empty mask.
    Equivariance: the query of g(I) attends to g(F) and has to give the code of g(M) in its box, by
    the head's own loss of codes. Scores, which are those of classes alone, take no part.

    What is stored is the region of an instance, 7 x 7 cells of each level, so a row stands for all
    of these and the memory holds that many fewer. A last channel says which cells are image.

    Args:
        head: The detector, as its decoder is needed.
    """

    heads = ('SOLQ',)
    max_rows = 16
    per_query = ('references', 'targets')
    max_stride = 64

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self.row_pixels = head.num_feature_levels * _SIDE**2

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take the encoder's maps, the states before the last cross-attention, and the matching."""
        head: Any = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            attended = taps.calls_of(head.decoder.layers[-1].cross_attn, 'forward')
            terms = taps.calls_of(head.bbox_head, '_layer_losses')

            def read() -> list[QueryRecord]:
                call = attended[-1].kwargs
                matches, codes = terms[-1].args[3], terms[-1].args[6]
                states = torch.cat([call['query'], call['query_pos']], dim=-1)
                maps = _maps_of(call['value'], call['key_padding_mask'], call['spatial_shapes'])
                return [
                    QueryRecord(
                        states[i][match.query_inds],
                        match.gt_inds,
                        tuple(level[i] for level in maps),
                        dict(
                            references=call['reference_points'][i][match.query_inds],
                            targets=codes[i][match.gt_inds],
                            boxes=sample.gt_instances.bboxes.float(),
                            canvas_hw=sample.metainfo['batch_input_shape'],
                        ),
                    )
                    for i, (match, sample) in enumerate(zip(matches, samples, strict=True))
                ]

            return read

        return recording(tap)

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out matching and losses of earlier layers."""
        head: Any = self.head.bbox_head
        known = runs_methods_of(head, SOLQHead, 'forward', 'loss', 'loss_by_feat')
        if not (known and runs_methods_of(detector, SOLQ, 'loss')):
            return
        compute = head.loss_by_feat

        def last_layer(
            all_cls: Tensor, all_boxes: Tensor, all_codes: Tensor, *batch: Any
        ) -> dict[str, Tensor]:
            last: dict[str, Tensor] = compute(all_cls[-1:], all_boxes[-1:], all_codes[-1:], *batch)
            return last

        taps.replace(head, 'loss_by_feat', last_layer)

    def respond(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Let every query read every stored region, as if the region's box were its own.

        Args:
            queries: (N, 2 C), states and positions.
            rows: (P, levels * (C + 1) * 49).

        Returns:
            (N, P, h, w).
        """
        n, p, levels = len(queries), len(rows), self.head.num_feature_levels
        cells = rows.view(p, levels, -1, _SIDE**2).transpose(2, 3).flatten(1, 2)
        inside = 1 / _ENLARGED
        reference = rows.new_tensor([0.5, 0.5, inside, inside]).expand(p, n, 1, 4)
        codes = self._codes(queries.expand(p, -1, -1), cells, reference, [(_SIDE, _SIDE)] * levels)
        masks = self.head.bbox_head.mask_coder.decode(codes.flatten(0, 1), _STEP)
        logits: Tensor = _logits(masks).view(p, n, *masks.shape[-2:]).transpose(0, 1)
        return logits

    def respond_map(self, record: QueryRecord, pixels: Any) -> Tensor:
        """Let the queries of a record read other maps inside their own boxes.

        Args:
            record: The queries and their reference boxes.
            pixels: For each level (C + 1, h, w).

        Returns:
            (N, size, size) of the mask coder.
        """
        coder = self.head.bbox_head.mask_coder
        if len(record.queries) == 0:
            return record.queries.new_zeros((0, coder.size, coder.size)) + record.queries.sum() * 0
        cells = torch.cat([level.flatten(1) for level in pixels], dim=1).T[None]
        sizes = [(level.shape[-2], level.shape[-1]) for level in pixels]
        references = record.context['references'][None]
        return _logits(coder.decode(self._codes(record.queries[None], cells, references, sizes)[0]))

    def _codes(
        self, queries: Tensor, cells: Tensor, references: Tensor, sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Run the last decoder layer from its cross-attention on, and the mask branch.

        Args:
            queries: (P, N, 2 C).
            cells: (P, S, C + 1) of P images; the last channel is 1 where there is image.
            references: (P, N, 1 or levels, 4) as (cx, cy, w, h) of the maps.
            sizes: (h, w) of each level, S cells together.

        Returns:
            (P, N, K) mask codes.
        """
        layer = self.head.decoder.layers[-1]
        states, positions = queries.chunk(2, dim=-1)
        states = layer.cross_attn(
            query=states.contiguous(),
            query_pos=positions,
            value=cells[..., :-1].contiguous(),
            key_padding_mask=cells[..., -1] < 0.5,
            reference_points=references,
            spatial_shapes=torch.tensor(sizes, device=cells.device),
            level_start_index=_starts(sizes, cells.device),
        )
        hidden = layer.norms[2](layer.ffn(layer.norms[1](states)))
        codes: Tensor = self.head.bbox_head.vector_branch(hidden)
        return codes

    def boxes_of(self, record: QueryRecord, canvas_hw: tuple[int, int]) -> Tensor:
        """Give the boxes that the last layer starts from, see :meth:`QueryAdapter.boxes_of`.

        They are fractions of the maps, so on another canvas they are those of the same fractions.
        The last refinement, which the mask is predicted for, needs the query's answer first and is
        left out.
        """
        references: Tensor = record.context['references'][:, 0]
        height, width = canvas_hw
        boxes: Tensor = bbox_cxcywh_to_xyxy(references)
        return boxes * boxes.new_tensor([width, height, width, height])

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the head's loss of the codes of the last layer."""
        head = self.head.bbox_head
        masks = torch.cat(logits)
        # Before anything else: every rank takes part, also one without queries.
        objects = float(sum(len(record.context['boxes']) for record in records))
        number = reduce_mean(masks.new_tensor(objects)).clamp(min=1)
        if len(masks) == 0:
            return masks.sum() * 0
        # The code of a decoded code is the code again.
        codes = head.mask_coder.encode(masks / _SLOPE + 0.5)
        targets = torch.cat([record.context['targets'] for record in records])
        average = codes.numel() if head.vector_avg == 'matches' else number
        loss: Tensor = head.loss_vector(codes, targets, avg_factor=average)
        return loss

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the loss of codes."""
        return float(self.head.bbox_head.loss_vector.loss_weight)

    def rows_of(self, record: QueryRecord) -> tuple[Tensor, Tensor] | None:
        """Give the region of every instance, (G, levels * (C + 1) * 49)."""
        boxes, canvas_hw = record.context['boxes'], record.context['canvas_hw']
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        half = sides * (_ENLARGED / 2)
        rois = torch.cat([boxes.new_zeros((len(boxes), 1)), centres - half, centres + half], dim=1)
        size = (_SIDE, _SIDE)
        regions = [
            roi_align(level[None].float(), rois, size, level.shape[-1] / canvas_hw[1], 0, 'avg')
            for level in record.pixels
        ]
        rows = torch.stack(regions, dim=1).flatten(1)
        return rows, torch.arange(len(boxes), device=boxes.device)


def _maps_of(value: Tensor, padding: Tensor | None, shapes: Any) -> list[Tensor]:
    """Split the encoder's output into maps, with a channel that is 1 where there is image.

    Args:
        value: (B, S, C).
        padding: (B, S), true beside the images; ``None`` without any.
        shapes: (levels, 2) as (h, w).

    Returns:
        For each level (B, C + 1, h, w).
    """
    sizes = [(int(h), int(w)) for h, w in shapes]
    image = torch.ones_like(value[..., :1])
    if padding is not None:
        image = image.masked_fill(padding[..., None], 0.0)
    cells = torch.cat([value, image], dim=-1).transpose(1, 2)
    parts = torch.split(cells, [h * w for h, w in sizes], dim=-1)
    return [p.reshape(*p.shape[:2], *size) for p, size in zip(parts, sizes, strict=True)]


def _starts(sizes: list[tuple[int, int]], device: torch.device) -> Tensor:
    areas = torch.tensor([0, *(h * w for h, w in sizes)], device=device)
    return areas.cumsum(0)[:-1]


def _logits(masks: Tensor) -> Tensor:
    return _SLOPE * (masks - 0.5)
