"""mmengine's checkpoint hook with an order of steps that never loses the last good file."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from isda_suite.checkpoint.latest import PREEMPTED, write_pointer
from isda_suite.checkpoint.saving import check_room, remove_leftovers, size_of
from isda_suite.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Save, then move the pointer, then delete: in this order for every kind of checkpoint.

    mmengine deletes first, so a kill while it writes can leave no checkpoint at all. Arguments are
    those of :class:`mmengine.hooks.CheckpointHook`.

    A run that is killed between saving and deleting leaves one file more than ``max_keep_ckpts``;
    the run that resumes it deletes that one.
    """

    # Set by mmengine in before_train.
    file_backend: Any
    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Any) -> None:
        """Prepare the folder: remove unfinished files, warn when there is no room."""
        best = runner.message_hub.runtime_info
        super().before_train(runner)
        folder = Path(str(self.out_dir))
        if '://' in str(self.out_dir) or not is_main_process():
            return
        for name in [key for key in best if str(key).startswith('best_ckpt')]:
            self._move_best(runner, name, folder)
        folder.mkdir(parents=True, exist_ok=True)
        for file in remove_leftovers(folder):
            runner.logger.warning(f'removed {file}, a checkpoint a killed run did not finish')
        warning = check_room(_expected_size(runner), folder)
        if warning:
            runner.logger.warning(warning)

    def save_preempted(self, runner: Any, iteration: int) -> Path:
        """Save the state of a run that has to stop, in the middle of an epoch or not.

        Args:
            runner: The run.
            iteration: How many iterations it has done.

        Returns:
            The file; the next ordinary checkpoint deletes it.
        """
        path = Path(str(self.out_dir)) / PREEMPTED
        meta = dict(epoch=runner.epoch, iter=iteration)
        runner.save_checkpoint(str(self.out_dir), PREEMPTED, meta=meta, by_epoch=False)
        if is_main_process():
            write_pointer(runner.work_dir, path)
        return path

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        outdated = self._note_step(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        write_pointer(runner.work_dir, str(self.last_ckpt))
        names = [self.filename_tmpl.format(number) for number in outdated]
        for name in (*names, PREEMPTED):
            self._remove(self.file_backend.join_path(self.out_dir, name))

    def _note_step(self, runner: Any, step: int) -> list[int]:
        """Take up a step among those to keep; return those to delete once it is saved."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        steps = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        # The list in the file holds the outdated ones too: whoever resumes from it deletes them.
        runner.message_hub.update_info('keep_ckpt_ids', steps)
        return steps[: -self.max_keep_ckpts]

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        with self._removing_last() as outdated:
            super()._save_best_checkpoint(runner, metrics)
        current = {getattr(self, 'best_ckpt_path', None)}
        current.update(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in outdated:
            if path not in current:
                self._remove(path)

    @contextmanager
    def _removing_last(self) -> Iterator[list[str]]:
        """Collect what the block wants to remove, instead of removing it."""
        backend = self.file_backend
        collector = _Collector(backend)
        self.file_backend = collector
        try:
            yield collector.paths
        finally:
            self.file_backend = backend

    def _move_best(self, runner: Any, name: str, folder: Path) -> None:
        """Look for the best checkpoint in this folder when the work dir was moved."""
        old = runner.message_hub.get_info(name)
        moved = folder / Path(str(old)).name
        if not old or Path(str(old)).exists() or not moved.exists():
            return
        runner.message_hub.update_info(name, str(moved))
        if name == 'best_ckpt':
            self.best_ckpt_path = str(moved)
        else:
            self.best_ckpt_path_dict[name.removeprefix('best_ckpt_')] = str(moved)

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # sharded checkpoints are folders
            self.file_backend.rmtree(path)


class _Collector:
    """A file backend that collects what it is told to remove."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.paths: list[str] = []

    def remove(self, path: str) -> None:
        self.paths.append(path)

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _expected_size(runner: Any) -> int:
    """Estimate a checkpoint: weights, and two moments of each trained one with Adam's kind."""
    state = size_of(dict(runner.model.state_dict()))
    trained = sum(
        p.numel() * p.element_size() for p in runner.model.parameters() if p.requires_grad
    )
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    moments = 2 if any('betas' in group for group in getattr(optimizer, 'param_groups', [])) else 1
    return state + moments * trained
