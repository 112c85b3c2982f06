"""What the published SOLOv2 code computed, with switches for its slips."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.query_adapter import QueryRecord, finest
from isda_suite.registry import MODELS, TASK_UTILS

from .curves import SEEN_QUERIES, SEEN_ROWS, response_curves
from .step import Step
from .uniqueness import UniquenessLoss, spread_queries


@TASK_UTILS.register_module()
class PastBatches:
    """Uniqueness against whole feature maps of past batches, image i with image i.

    Where a past batch was smaller its images are taken again from the first one, which the
    published code answers with an index error.

    Args:
        loss: Config of the loss, see :class:`.uniqueness.UniquenessLoss`. Its ``detach`` is what
            the published code does by mistake: the value has no gradient.
        num_batches: Batches to hold.

    Source: the published SOLOv2 code of IUQ.
    """

    def __init__(self, loss: Mapping[str, Any], num_batches: int = 2) -> None:
        self.loss: UniquenessLoss = MODELS.build({'type': 'isda_suite.UniquenessLoss', **loss})
        self.num_batches = num_batches
        self.batches: list[list[Tensor]] = []

    def __call__(self, step: Step) -> dict[str, Any]:
        """Compute ``loss_unique``, a sum over the stored batches, and curves; then store this."""
        total = step.silence
        curves = {'iuq/mem_size': step.inputs.new_tensor(float(self._num_pixels()))}
        curves.update(response_curves(self._few_responses(step.records)))
        for batch in self.batches:
            total = total + dense_uniqueness(step.records, batch, self.loss)
        self.batches.append([finest(record.pixels).detach() for record in step.records])
        self.batches = self.batches[-self.num_batches :]
        return {'loss_unique': total, **curves}

    def _num_pixels(self) -> int:
        return sum(one[0].numel() for batch in self.batches for one in batch)

    @torch.no_grad()
    def _few_responses(self, records: list[QueryRecord]) -> list[Tensor]:
        """Let a few queries of image i answer to a few pixels of the image i stored last."""
        found = []
        for i, record in enumerate(records if self.batches else []):
            batch = self.batches[-1]
            pixels = batch[i % len(batch)].flatten(1)
            few = spread_queries(record.gt_inds, max(SEEN_QUERIES // len(records), 1))
            seen = pixels[:, :: max(pixels.shape[1] // SEEN_ROWS, 1)]
            found.append(record.queries[few] @ seen)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the stored batches."""
        return {'batches': [[one.cpu() for one in batch] for batch in self.batches]}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take up stored batches."""
        self.batches = [[one.to(device) for one in batch] for batch in state['batches']]


def dense_uniqueness(
    records: list[QueryRecord], features: list[Tensor], loss: UniquenessLoss
) -> Tensor:
    """Let the kernels of image i answer to the whole of the stored image i.

    Args:
        records: B records with dot-product queries; those of SOLOv2 tell the level of each.
        features: Stored maps (Q, h, w).
        loss: Applied to the responses of each level; the mean over levels with a positive cell is
            taken.

    Returns:
        A scalar, weight included; 0 without any query (the published code gives NaN).
    """
    levels: dict[int, list[Tensor]] = {}
    for i, record in enumerate(records):
        cells = record.context.get('cells')
        sizes = [len(record.queries)] if cells is None else [len(level) for level in cells]
        feature = features[i % len(features)].flatten(1)
        for level, queries in enumerate(torch.split(record.queries, sizes)):
            queries = queries.detach() if loss.detach else queries
            if len(queries):
                levels.setdefault(level, []).append((queries @ feature).flatten())
    if not levels:
        return sum((record.queries.sum() * 0 for record in records), torch.zeros(()))
    return torch.stack([loss(torch.cat(parts)) for parts in levels.values()]).mean()


@TASK_UTILS.register_module()
class SOLOv2Equivariance:
    """Equivariance under a flip, on the grid of cells of the original image.

    Args:
        loss_weight: Factor of the mask term ``loss_equi``.
        base_weight: Factor of the classification term ``equi_loss_cls``.
        legacy_cells: Read kernels and classes of the flipped image at the cell of the original,
            as the published code does, though the object now lies in the mirrored cell. False
            mirrors both maps first.

    Raises:
        ModelConfigError: in the first step of another head than SOLOv2's.

    Source: the published SOLOv2 code of IUQ.
    """

    def __init__(
        self, loss_weight: float = 0.3, base_weight: float = 0.3, legacy_cells: bool = True
    ) -> None:
        self.loss_weight = loss_weight
        self.base_weight = base_weight
        self.legacy_cells = legacy_cells

    def __call__(self, step: Step) -> dict[str, Any]:
        """Run the flipped batch and compute both terms."""
        if any('cells' not in record.context for record in step.records):
            raise ModelConfigError(
                'equivariance.type: SOLOv2Equivariance works on the grids of SOLOV2Head, found '
                f'{type(step.adapter.head).__name__}: use isda_suite.Equivariance'
            )
        features = step.detector.extract_feat(step.inputs.flip(-1))  # type: ignore[operator]
        kernels, logits, _ = step.adapter.head(features)
        loss_mask, loss_cls = flipped_losses(
            step.adapter, kernels, logits, step.records, self.legacy_cells
        )
        return {
            'loss_equi': self.loss_weight * loss_mask,
            'equi_loss_cls': self.base_weight * loss_cls,
        }


def flipped_losses(
    adapter: Any,
    kernels: list[Tensor],
    logits: list[Tensor],
    records: list[QueryRecord],
    legacy_cells: bool,
) -> tuple[Tensor, Tensor]:
    """Compute mask and class loss of predictions for the flipped batch.

    Args:
        adapter: Of the SOLOv2 head.
        kernels: For each level (B, Q, g, g), of the flipped images.
        logits: For each level (B, classes, g, g), of the flipped images.
        records: Of the images themselves: features, targets, cells, labels.
        legacy_cells: See :class:`SOLOv2Equivariance`.

    Returns:
        Two scalars, the head's own weights included.
    """
    if not legacy_cells:
        kernels = [level.flip(-1) for level in kernels]
        logits = [level.flip(-1) for level in logits]
    masks = []
    for i, record in enumerate(records):
        queries = torch.cat(
            [k[i].flatten(1)[:, c].T for k, c in zip(kernels, record.context['cells'], strict=True)]
        )
        moved = QueryRecord(queries, record.gt_inds, record.pixels, record.context)
        masks.append(adapter.respond_map(moved, finest(record.pixels).flip(-1)).flip(-1))
    flat = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in logits])
    labels = torch.cat(
        [
            record.context['labels'][level].flatten()
            for level in range(len(logits))
            for record in records
        ]
    )
    positives = sum(record.context['num_cells'] for record in records)
    loss_cls: Tensor = adapter.head.loss_cls(flat, labels, avg_factor=positives + 1)
    return adapter.mask_loss(records, masks), loss_cls
