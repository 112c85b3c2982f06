"""Compare the classes of the model with those of the data before the first step."""

from typing import Any

from mmengine.hooks import Hook
from torch import nn

from isda_suite.engine.errors import ConfigError
from isda_suite.registry import HOOKS


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Stop when a head predicts another number of classes than the data set has.

    A head with too few classes fails in the loss (on a GPU with an assertion of the device that
    ends the process); one with too many says nothing at all.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Any) -> None:
        """Check the training data set."""
        check_class_count(runner.model, runner.train_dataloader.dataset)

    def before_val(self, runner: Any) -> None:
        """Check the validation data set."""
        check_class_count(runner.model, runner.val_dataloader.dataset)

    def before_test(self, runner: Any) -> None:
        """Check the test data set."""
        check_class_count(runner.model, runner.test_dataloader.dataset)


def check_class_count(model: nn.Module, dataset: Any) -> None:
    """Compare ``num_classes`` of every head with the classes of a data set.

    A head is a module whose name ends with ``head`` and that has ``num_classes``; the one of a
    region proposal network tells objects from background only and is left out.

    Args:
        model: A model, wrapped or not.
        dataset: A data set with ``metainfo``; without class names nothing is checked.

    Raises:
        ConfigError: naming the head, both numbers, and the classes.
    """
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if classes is None:
        return
    if isinstance(classes, str):
        raise ConfigError(
            f'classes of the data set is the text {classes!r}; a single class is written '
            f"('{classes}',), with a comma"
        )
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        if not _is_class_head(name) or not isinstance(count, int) or count == len(classes):
            continue
        shown = ', '.join(map(str, classes[:8])) + (', …' if len(classes) > 8 else '')
        raise ConfigError(
            f'{name.removeprefix("module.")} of the model has num_classes={count}, but the data '
            f'set has {len(classes)} classes ({shown}); set num_classes={len(classes)} in the '
            'model, or the classes in the metainfo of the data sets'
        )


def _is_class_head(name: str) -> bool:
    # Heads in a list end with a number: roi_head.bbox_head.0
    parts = [part for part in name.split('.') if not part.isdigit()]
    return bool(parts) and parts[-1].endswith('head') and parts[-1] not in ('rpn_head', 'ga_head')
