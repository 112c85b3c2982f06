"""SOLOv2: the kernel of a positive cell is the query, the unified mask feature the pixels."""

from mmdet.models.dense_heads import SOLOV2Head
from torch import Tensor, nn

from isda_suite.layers.grid_query_adapter import GridKernelAdapter
from isda_suite.layers.query_adapter import QUERY_ADAPTERS, Taps, runs_methods_of


@QUERY_ADAPTERS.register_module()
class SOLOv2Adapter(GridKernelAdapter):
    """Adapter of mmdet's ``SOLOV2Head``."""

    heads = ('SOLOV2Head',)

    @property
    def knows_forward(self) -> bool:
        """Tell whether the head is mmdet's, see :attr:`GridKernelAdapter.knows_forward`."""
        return runs_methods_of(self.head, SOLOV2Head, 'forward', 'loss', 'loss_by_feat')

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out the tower of the classes as well; no other part reads what it computes."""
        super().leave_out(detector, taps)
        if self.knows_forward:
            for layer in (*self.head.cls_convs, self.head.conv_cls):
                taps.replace(layer, 'forward', _pass_on)


def _pass_on(values: Tensor) -> Tensor:
    return values
