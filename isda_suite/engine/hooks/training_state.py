"""A hook that keeps what a model needs in training alone, beside its weights."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from isda_suite.registry import HOOKS


@HOOKS.register_module()
class TrainingStateHook(Hook):
    """Put a model's training state into checkpoints under a key of its own.

    It is for models with ``training_state_key``, ``training_state()`` and
    ``load_training_state(state)``, such as a memory of past images. The weights under
    ``state_dict`` are not touched, so who wants only them finds a plain checkpoint. The state is
    taken up when a run is resumed, not from a ``load_from``, which starts a new run.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Write the state."""
        model = _plain(runner.model)
        if hasattr(model, 'training_state_key'):
            checkpoint[model.training_state_key] = model.training_state()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take up the state of the run that is resumed."""
        model = _plain(runner.model)
        key = getattr(model, 'training_state_key', None)
        if key is None or not runner._resume:
            return
        if key in checkpoint:
            model.load_training_state(checkpoint[key])
        else:
            runner.logger.warning(
                f'the checkpoint holds no {key}: it was trained without, and the run goes on with '
                'an empty one'
            )


def _plain(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model
