"""How IUQ trains SOTR's queries."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.grid_query_adapter import GridKernelAdapter
from isda_suite.layers.query_adapter import QUERY_ADAPTERS, QueryRecord, Taps, runs_methods_of

from .detector import SOTR
from .head import SOTRHead


@QUERY_ADAPTERS.register_module()
class SOTRAdapter(GridKernelAdapter):
    """Adapter of :class:`SOTRHead`: kernels of the positive cells, and the mask feature.

    Outputs and targets are those of SOLOv2; what differs is the number that the mask loss is a
    mean over.
    """

    heads = ('SOTRHead',)

    def knows(self, detector: nn.Module) -> bool:
        """Tell whether detector and head are ours, see :meth:`GridKernelAdapter.knows`."""
        methods = ('forward', 'mask_feature', 'loss', 'loss_by_feat')
        return runs_methods_of(detector, SOTR, 'loss') and runs_methods_of(
            self.head, SOTRHead, *methods
        )

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out the transformed map of the mask feature as well."""
        super().leave_out(detector, taps)
        if self.knows(detector):
            taps.replace(self.head, 'mask_feature', lambda maps: (maps[0], maps[0]))

    def make_targets(
        self, gts: Sequence[Any], metas: Sequence[dict[str, Any]], size_hw: tuple[int, int]
    ) -> None:
        """Let the head assign instances, whose masks it takes without padding."""
        self.head.targets_of(gts, metas, size_hw)

    def respond_map(self, record: QueryRecord, pixels: Tensor) -> Tensor:
        """Decode mask logits as the head does, (N, h, w) float32."""
        return decode_mask_logits(record.queries, pixels)

    def count(self, records: list[QueryRecord]) -> int:
        """Return the number of mask targets, or of distinct cells, as ``mask_avg`` says."""
        if self.head.mask_avg == 'targets':
            return sum(len(record.queries) for record in records)
        return super().count(records)
