"""Heads of SOLOv2's kind: kernels of positive cells are queries, the mask feature is the pixels."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ModelConfigError
from .mask_coverage import bitmap_of, coverage_of
from .query_adapter import DotProductAdapter, QueryRecord, Taps, recording


class GridKernelAdapter(DotProductAdapter):
    """Base of the adapters of ``SOLOV2Head`` and of heads that keep its outputs and targets.

    Queries are the kernels of the positive cells of all levels, once per cell and instance, as the
    head's loss takes them.

    Args:
        head: The mask head.

    Raises:
        ModelConfigError: if kernels are larger than one pixel, as then no pixel answers alone.
    """

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        if head.dynamic_conv_size != 1:
            raise ModelConfigError(
                f'mask_head.dynamic_conv_size: expected 1, got {head.dynamic_conv_size}: a stored '
                'pixel has no neighbours to convolve with'
            )

    def record(
        self, detector: nn.Module, samples: Sequence[Any]
    ) -> AbstractContextManager[list[QueryRecord]]:
        """Take kernels, classes and mask feature of the forward pass and the targets made of it."""
        head = self.head

        def tap(taps: Taps) -> Callable[[], list[QueryRecord]]:
            outputs = taps.outputs_of(head)
            targets = taps.calls_of(head, '_get_targets_single')

            def read() -> list[QueryRecord]:
                kernels, logits, features = outputs[-1]
                records = []
                for i, feature in enumerate(features):
                    own = [level[i] for level in kernels]
                    record = self.record_of(own, feature, targets[i].result, samples[i])
                    record.context.update(kernels=own, logits=[level[i] for level in logits])
                    records.append(record)
                return records

            return read

        return recording(tap)

    def record_of(
        self, kernels: list[Tensor], feature: Tensor, targets: Any, sample: Any
    ) -> QueryRecord:
        """Make the record of one image.

        Args:
            kernels: For each level (Q, g, g).
            feature: (Q, h, w).
            targets: What ``_get_targets_single`` returned: for each level mask targets (n, h, w),
                labels (g, g), positive cells (g * g,) and their indices (n,).
            sample: The data sample, or what has ``gt_instances``.
        """
        mask_targets, labels, cell_masks, indices = targets
        cells = [torch.as_tensor(level, dtype=torch.long).to(feature.device) for level in indices]
        queries = [k.flatten(1)[:, c].T for k, c in zip(kernels, cells, strict=True)]
        masks = torch.cat(mask_targets)
        return QueryRecord(
            torch.cat(queries),
            _instances_of(masks, sample.gt_instances),
            feature,
            dict(
                targets=masks,
                labels=labels,
                cells=cells,
                num_cells=sum(int(level.sum()) for level in cell_masks),
            ),
        )

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out mask feature and losses, see :meth:`QueryAdapter.leave_out`."""
        if not self.knows(detector):
            return
        head = self.head

        def make_targets(_kernels: Any, _logits: Any, feature: Tensor, **batch: Any) -> Any:
            size_hw = (feature.shape[-2], feature.shape[-1])
            self.make_targets(batch['batch_gt_instances'], batch['batch_img_metas'], size_hw)
            return {}

        # The finest map has the size of the mask feature.
        taps.replace(head.mask_feature_head, 'forward', lambda maps: maps[0])
        taps.replace(head, 'loss_by_feat', make_targets)

    @abstractmethod
    def knows(self, detector: nn.Module) -> bool:
        """Tell whether detector and head run the code that :meth:`leave_out` was written for."""

    def make_targets(
        self, gts: Sequence[Any], metas: Sequence[dict[str, Any]], size_hw: tuple[int, int]
    ) -> None:
        """Let the head assign the instances of a batch to cells.

        Args:
            gts: B instances.
            metas: B dicts with ``img_shape``.
            size_hw: (h, w) of the mask feature.
        """
        for gt in gts:
            self.head._get_targets_single(gt, featmap_sizes=size_hw)

    def mask_loss(self, records: list[QueryRecord], logits: list[Tensor]) -> Tensor:
        """Compute the dice loss, a mean over :meth:`count`, as the head does."""
        total = sum((one.sum() * 0 for one in logits), logits[0].new_zeros(()))
        for record, one in zip(records, logits, strict=True):
            if len(one):
                target = record.context['targets']
                total = total + self.head.loss_mask(one, target, reduction_override='none').sum()
        return total / max(self.count(records), 1)

    def count(self, records: list[QueryRecord]) -> int:
        """Return what the sum of the dice losses is divided by: distinct positive cells."""
        return sum(int(record.context['num_cells']) for record in records)

    @property
    def mask_loss_weight(self) -> float:
        """Weight of the dice loss."""
        return float(self.head.loss_mask.loss_weight)


def _instances_of(targets: Tensor, gts: Any) -> Tensor:
    """Find the instance of each mask target; the head itself keeps only its mask.

    Args:
        targets: (N, h, w) binary masks at stride 4.
        gts: Instances with ``masks`` at input size.

    Returns:
        (N,) the instance whose mask is most like the target; equal masks are the same instance for
        all purposes here.
    """
    if len(targets) == 0:
        return targets.new_zeros(0, dtype=torch.long)
    size_hw = (targets.shape[-2], targets.shape[-1])
    canvas_hw = (4 * size_hw[0], 4 * size_hw[1])
    masks = coverage_of(bitmap_of(gts.masks, canvas_hw, targets.device), size_hw).flatten(1)
    small = targets.flatten(1).float()
    overlap = small @ masks.T
    return (overlap / (small.sum(1)[:, None] + masks.sum(1)).clamp(min=1e-6)).argmax(dim=1)
