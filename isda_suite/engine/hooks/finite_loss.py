"""Stop a run at the first loss, gradient or weight that is not finite."""

import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from isda_suite.checkpoint.saving import save_file
from isda_suite.engine.errors import NonFiniteLossError
from isda_suite.engine.ranks import on_any_rank
from isda_suite.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop when a loss term or the gradient norm is NaN or infinite, before anything is saved.

    Every rank checks its own terms after each iteration (mmengine has brought them to the host
    by then) and the ranks exchange one number, so that all of them stop after the same
    iteration, before the checkpoint hook's turn. With dynamic loss scaling single steps with an
    infinite gradient are normal and are skipped by the scaler; only many in a row stop the run.

    A gradient that is not finite under a finite loss is seen at once where gradients are clipped.
    Elsewhere it spoils the weights first, so these are looked at before each checkpoint.

    Args:
        patience: Number of steps in a row that dynamic loss scaling may skip.
    """

    priority = 'VERY_HIGH'

    def __init__(self, patience: int = 100) -> None:
        self.patience = patience
        self._skipped = 0

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Check the terms of this iteration.

        Raises:
            NonFiniteLossError: with every term, the images, the learning rate and the iteration.
        """
        numbers = {name: value for name, value in (outputs or {}).items() if _is_number(value)}
        terms = {name: float(torch.as_tensor(v).detach()) for name, v in numbers.items()}
        norm = _gradient_norm(runner)
        mine = not all(math.isfinite(value) for value in (*terms.values(), norm))
        if not on_any_rank(mine):
            self._skipped = 0
            return
        self._skipped += 1
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        scaling = scaler is not None and scaler.is_enabled()
        if scaling and self._skipped < self.patience:
            return
        kept = _keep_batch(runner, data_batch) if mine else ''
        raise NonFiniteLossError(self._describe(runner, data_batch, terms, norm, mine) + kept)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Look at the weights before they are written.

        Raises:
            NonFiniteLossError: with the names of some that are not finite.
        """
        names, finite = [], []
        for name, parameter in runner.model.named_parameters():
            names.append(name)
            finite.append(torch.isfinite(parameter.detach()).all())
        if not finite or bool(torch.stack(finite).all()):
            return
        bad = [name for name, good in zip(names, finite, strict=True) if not good]
        raise NonFiniteLossError(
            f'{len(bad)} of {len(names)} weights are not finite after iteration {runner.iter} '
            f'({", ".join(bad[:5])}), though the loss was: a gradient was not. This checkpoint was '
            'not written; continue from the last one, with optim_wrapper.clip_grad, which stops '
            'at the step itself'
        )

    def _describe(
        self, runner: Any, data_batch: Any, terms: dict[str, float], norm: float, mine: bool
    ) -> str:
        rates = sorted({rate for group in runner.optim_wrapper.get_lr().values() for rate in group})
        what = ', '.join(f'{name}={value:.6g}' for name, value in terms.items())
        where = '' if mine else ' on another rank (the terms below are of this one)'
        gradient = f'gradient norm {norm:.6g}; ' if norm else ''
        skipped = f' for {self._skipped} steps in a row' if self._skipped > 1 else ''
        return (
            f'the loss or its gradient is not finite{where}{skipped} at iteration '
            f'{runner.iter + 1} (epoch {runner.epoch + 1}): {what}; {gradient}'
            f'learning rate {", ".join(f"{rate:.3g}" for rate in rates)}; images '
            f'{", ".join(_images(data_batch)) or "unknown"}. Nothing was saved after it; continue '
            'from the last checkpoint with a lower learning rate, a smaller gradient clip '
            '(optim_wrapper.clip_grad) or without --amp, and look at these images and their '
            'annotations'
        )


def _keep_batch(runner: Any, data_batch: Any) -> str:
    """Write the batch into the work dir, for whoever looks for the cause."""
    try:
        path = Path(runner.work_dir) / f'non_finite_batch_rank{get_rank()}.pt'
        content = {'data_batch': data_batch, 'iteration': runner.iter + 1, 'seed': runner.seed}
        save_file(content, path)
    except Exception as error:  # the reason of the stop must not get lost behind this one
        return f'. The batch could not be written: {error}'
    return f'. The batch is in {path} (torch.load(..., weights_only=False))'


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1
    return isinstance(value, int | float)


def _gradient_norm(runner: Any) -> float:
    """Return the norm that clipping computed in this iteration, or 0 without clipping."""
    history = runner.message_hub.log_scalars.get('train/grad_norm')
    clipped = getattr(runner.optim_wrapper, 'clip_grad_kwargs', None)
    return float(history.current()) if clipped and history is not None else 0.0


def _images(data_batch: Any) -> list[str]:
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    found = []
    for sample in samples if isinstance(samples, list | tuple) else []:
        meta = getattr(sample, 'metainfo', {})
        found.append(str(meta.get('img_path') or meta.get('img_id', '?')))
    return found
