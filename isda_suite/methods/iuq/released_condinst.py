"""What the published CondInst code computed: the other half of the batch is the memory."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord, detached
from isda_suite.registry import MODELS, TASK_UTILS

from .curves import response_curves
from .step import Step
from .uniqueness import UniquenessLoss

Order = Callable[[int], Tensor]


@TASK_UTILS.register_module()
class PartnerHalf:
    """Uniqueness against the second half of the mini-batch, positive k with positive k.

    With a batch of one image the halves are the same image, as in the published code.

    Args:
        loss: Config of the loss, see :class:`.uniqueness.UniquenessLoss`.
        max_queries: Positives of a half that take part.

    Source: the published CondInst code of IUQ and its byte-compiled variants.
    """

    def __init__(self, loss: Mapping[str, Any], max_queries: int = 500) -> None:
        self.loss: UniquenessLoss = MODELS.build({'type': 'isda_suite.UniquenessLoss', **loss})
        self.max_queries = max_queries

    def __call__(self, step: Step) -> dict[str, Any]:
        """Compute ``loss_unique`` of the first half's queries on the second half, and curves."""
        half = max(len(step.records) // 2, 1)
        ours, others = step.records[:half], step.records[-half:]
        logits = partner_logits(step.adapter, ours, others, self.max_queries)
        if logits is None:
            return {'loss_unique': step.silence}
        loss = self.loss(logits.detach() if self.loss.detach else logits)
        return {'loss_unique': loss, **response_curves([logits])}


def partner_logits(
    adapter: QueryAdapter,
    ours: list[QueryRecord],
    others: list[QueryRecord],
    limit: int = 500,
    order: Order = torch.randperm,
) -> Tensor | None:
    """Let positive k of one half answer to the input of positive k of the other half.

    Both lists of positives are cut to the shorter one's length, so late images and coarse levels
    of the longer list never take part, as in the published code.

    Args:
        adapter: Of CondInst's head.
        ours: Records whose queries answer, with gradient.
        others: Records whose features and locations are asked, without.
        limit: Largest number of positives.
        order: Gives a permutation of n.

    Returns:
        (n, h, w) logits in the order of the pairs; ``None`` without any pair.
    """
    queries = torch.cat([record.queries for record in ours])
    owners = torch.cat([torch.full_like(r.gt_inds, i) for i, r in enumerate(others)])
    count = min(len(queries), len(owners))
    if count == 0:
        return None
    first, second = order(count)[:limit], order(count)[:limit]
    places = InstanceData.cat([_places_of(record) for record in others])[second]
    queries, owners = queries[first], owners[second]
    answers: list[Tensor] = []
    rows: list[Tensor] = []
    for i, record in enumerate(others):
        asked = (owners == i).nonzero().squeeze(1)
        if len(asked) == 0:
            continue
        context = {**record.context, 'info': places[asked]}
        pair = QueryRecord(queries[asked], asked, record.pixels, context)
        answers.append(adapter.respond_map(pair, detached(record.pixels)))
        rows.append(asked)
    return torch.cat(answers)[torch.cat(rows).argsort()]


def _places_of(record: QueryRecord) -> InstanceData:
    info = record.context['info']
    return InstanceData(points=info.points, strides=info.strides)
