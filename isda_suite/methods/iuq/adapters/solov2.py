"""SOLOv2: the kernel of a positive cell is the query, the unified mask feature the pixels."""

from isda_suite.layers.grid_query_adapter import GridKernelAdapter
from isda_suite.layers.query_adapter import QUERY_ADAPTERS


@QUERY_ADAPTERS.register_module()
class SOLOv2Adapter(GridKernelAdapter):
    """Adapter of mmdet's ``SOLOV2Head``."""

    heads = ('SOLOV2Head',)
