"""Mixed precision on GPUs and on the CPU, behind one optimizer wrapper."""

from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper as _GpuAmpOptimWrapper
from mmengine.optim import OptimWrapper

from isda_suite.engine.errors import ConfigError
from isda_suite.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(_GpuAmpOptimWrapper):
    """Train in mixed precision wherever the run happens.

    On a GPU this is mmengine's wrapper: float16 with loss scaling, or what ``dtype`` says. On the
    CPU, where mmengine refuses, it is bfloat16 without loss scaling (its exponent has float32's
    range, so nothing underflows); another half precision is not available there.

    Args:
        loss_scale: As in mmengine's wrapper; not used on the CPU.
        dtype: As in mmengine's wrapper; on the CPU always bfloat16.
        use_fsdp: As in mmengine's wrapper.
        **kwargs: ``optimizer``, ``clip_grad``, ``accumulative_counts``.
    """

    def __init__(
        self,
        loss_scale: Any = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        if torch.cuda.is_available():
            super().__init__(loss_scale=loss_scale, dtype=dtype, use_fsdp=use_fsdp, **kwargs)
            return
        # mmengine's own __init__ asserts a GPU; only what is above it applies here.
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.grad_scaler.GradScaler(device='cpu', enabled=False)
        self.cast_dtype = torch.bfloat16


def use_amp(optim_wrapper: dict[str, Any]) -> None:
    """Turn the configuration of an optimizer wrapper into one with mixed precision.

    Args:
        optim_wrapper: Changed in place; one that has mixed precision already keeps its settings.

    Raises:
        ConfigError: if it is of another class than those this can stand in for.
    """
    kind = str(optim_wrapper.get('type', 'OptimWrapper')).rpartition('.')[2]
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            f'--amp needs optim_wrapper.type OptimWrapper or AmpOptimWrapper, got {kind}'
        )
    optim_wrapper['type'] = 'isda_suite.AmpOptimWrapper'
    optim_wrapper.setdefault('loss_scale', 'dynamic')
