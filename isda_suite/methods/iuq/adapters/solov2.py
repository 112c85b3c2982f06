"""SOLOv2: the kernel of a positive cell is the query, the unified mask feature the pixels."""

from mmdet.models.dense_heads import SOLOV2Head
from mmdet.models.detectors import SOLOv2
from torch import Tensor, nn

from isda_suite.layers.grid_query_adapter import GridKernelAdapter
from isda_suite.layers.query_adapter import QUERY_ADAPTERS, Taps, runs_methods_of


@QUERY_ADAPTERS.register_module()
class SOLOv2Adapter(GridKernelAdapter):
    """Adapter of mmdet's ``SOLOV2Head``."""

    heads = ('SOLOV2Head',)

    def knows(self, detector: nn.Module) -> bool:
        """Tell whether detector and head are mmdet's, see :meth:`GridKernelAdapter.knows`."""
        methods = ('_init_layers', 'forward', 'loss', 'loss_by_feat')
        return runs_methods_of(detector, SOLOv2, 'loss') and runs_methods_of(
            self.head, SOLOV2Head, *methods
        )

    def leave_out(self, detector: nn.Module, taps: Taps) -> None:
        """Leave out the tower of the classes as well; no other part reads what it computes."""
        super().leave_out(detector, taps)
        if self.knows(detector):
            for layer in (*self.head.cls_convs, self.head.conv_cls):
                taps.replace(layer, 'forward', _pass_on)


def _pass_on(values: Tensor) -> Tensor:
    return values
