"""Progress bars for training, validation and test."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from isda_suite.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show how far a run is, with the time left and the current loss.

    The bar is drawn by the first process only and only on a terminal; elsewhere the log lines of
    ``LoggerHook`` say the same. While a bar is there, log lines are written above it.

    Args:
        shown: Draw the bar; None means where the error stream is a terminal.
    """

    priority = 'LOWEST'

    def __init__(self, shown: bool | None = None) -> None:
        self.shown = shown
        self._train_bar: Any = None
        self._inner_bar: Any = None
        self._redirected = ExitStack()

    def before_train(self, runner: Any) -> None:
        """Open the bar of the whole training, at the iteration it resumes from."""
        self._train_bar = self._open(runner, 'train', runner.max_iters, runner.iter)

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Move the bar; the loss comes from the log, so nothing waits for the device."""
        bar = self._train_bar
        if bar is None or bar.disable:
            return
        scalars = runner.message_hub.log_scalars
        if 'train/loss' in scalars and (runner.iter + 1) % 10 == 0:
            bar.set_postfix_str(f'loss {float(scalars["train/loss"].current()):.4g}', refresh=False)
        bar.update()

    def after_train(self, runner: Any) -> None:
        """Close the bar."""
        self._close(self._train_bar)
        self._train_bar = None

    def before_val_epoch(self, runner: Any) -> None:
        """Open a second bar below that of the training."""
        self._inner_bar = self._open(runner, 'val', len(runner.val_dataloader))

    def after_val_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Move the bar."""
        self._inner_bar.update()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self._close(self._inner_bar)
        self._inner_bar = None

    def before_test_epoch(self, runner: Any) -> None:
        """Open the bar."""
        self._inner_bar = self._open(runner, 'test', len(runner.test_dataloader))

    after_test_iter = after_val_iter
    after_test_epoch = after_val_epoch

    def _open(self, runner: Any, name: str, total: int, done: int = 0) -> Any:
        # tqdm takes None for "disabled unless it writes to a terminal".
        disable = None if self.shown is None else not self.shown
        bar = tqdm(
            total=total,
            initial=done,
            desc=name,
            dynamic_ncols=True,
            leave=self._train_bar is None,
            disable=disable if is_main_process() else True,
        )
        if not bar.disable and self._train_bar is None:
            self._keep_log_lines_above(runner.logger)
        return bar

    def _keep_log_lines_above(self, logger: logging.Logger) -> None:
        console = [h.level for h in logger.handlers if type(h) is logging.StreamHandler]
        self._redirected.enter_context(logging_redirect_tqdm([logger]))
        # tqdm's handler takes the place of the console's, but not its level.
        logger.handlers[-1].setLevel(max(console, default=logging.INFO))

    def _close(self, bar: Any) -> None:
        bar.close()
        if bar is self._train_bar or self._train_bar is None:
            self._redirected.close()
