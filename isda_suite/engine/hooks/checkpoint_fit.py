"""A hook that looks at a checkpoint before the runner loads it."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isda_suite.checkpoint.load import compare, require_fit
from isda_suite.registry import HOOKS


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Stop when a checkpoint does not fit the model, instead of going on with random weights.

    A run that is resumed needs every entry and the same class names. ``load_from`` may leave
    parts out, which are listed in one table; it needs at least half of the parameters. Sharded
    models (FSDP, DeepSpeed) are not looked at.

    Raises:
        CheckpointError: naming what is missing, unexpected, or of another shape.
    """

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Compare the checkpoint that was read with the runner's model."""
        if not _holds_whole_tensors(runner.model):
            return
        report = compare(runner.model, checkpoint, str(runner._load_from or 'the checkpoint'))
        dataset = getattr(getattr(runner._train_loop, 'dataloader', None), 'dataset', None)
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        require_fit(report, runner.model, strict=bool(runner._resume), classes=classes)


def _holds_whole_tensors(model: Any) -> bool:
    """Tell whether each process has every parameter in its own shape; sharded models do not."""
    wrapped = is_model_wrapper(model) and not isinstance(model, DistributedDataParallel)
    return isinstance(model, nn.Module) and not wrapped
