"""How IUQ trains SOTR's queries."""

from torch import Tensor

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.grid_query_adapter import GridKernelAdapter
from isda_suite.layers.query_adapter import QUERY_ADAPTERS, QueryRecord


@QUERY_ADAPTERS.register_module()
class SOTRAdapter(GridKernelAdapter):
    """Adapter of :class:`SOTRHead`: kernels of the positive cells, and the mask feature.

    Outputs and targets are those of SOLOv2; what differs is the number that the mask loss is a
    mean over.
    """

    heads = ('SOTRHead',)

    def respond_map(self, record: QueryRecord, pixels: Tensor) -> Tensor:
        """Decode mask logits as the head does, (N, h, w) float32."""
        return decode_mask_logits(record.queries, pixels)

    def count(self, records: list[QueryRecord]) -> int:
        """Return the number of mask targets, or of distinct cells, as ``mask_avg`` says."""
        if self.head.mask_avg == 'targets':
            return sum(len(record.queries) for record in records)
        return super().count(records)
