"""Whatever happens while a checkpoint is written, the last good one survives and is found."""

import os
import random
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from isda_suite.apis.train import train
from isda_suite.checkpoint import saving
from isda_suite.checkpoint.errors import CheckpointError, CheckpointWriteError
from isda_suite.checkpoint.latest import find_newest, is_complete, write_pointer
from isda_suite.checkpoint.saving import check_room, remove_leftovers, save_file
from isda_suite.engine.errors import NonFiniteLossError
from tests.engine.toy import write_coco, write_config


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_config(folder, write_coco(folder / 'data'))


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    train(config, work_dir=folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """Give a copy of a run with the checkpoints iter_2.pth and iter_4.pth."""
    return Path(shutil.copytree(trained, tmp_path / 'run'))


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth*'))


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.99])
def test_a_torn_file_is_set_aside_and_the_one_before_it_taken(run, share, capfd):
    cut(run / 'iter_4.pth', share)
    assert find_newest(run) == run / 'iter_2.pth'
    assert names(run) == ['iter_2.pth', 'iter_4.pth.corrupt']


def test_training_resumes_from_the_file_before_the_torn_one(run, config):
    cut(run / 'iter_4.pth', 0.5)
    runner = train(config, work_dir=run, resume='auto')
    assert runner.iter == 4 and is_complete(run / 'iter_4.pth')
    assert (
        'iter_4.pth is cut off' in ''.join(p.read_text() for p in run.rglob('*.log'))
        or (run / 'iter_4.pth.corrupt').exists()
    )


def test_only_torn_files_are_an_error_that_lists_them(run):
    for name in names(run):
        cut(run / name, 0.5)
    with pytest.raises(CheckpointError, match=r'iter_4\.pth\.corrupt, iter_2\.pth\.corrupt'):
        find_newest(run)
    assert find_newest(run) is None  # they are out of the way now


@pytest.mark.parametrize('pointer', ['', 'gone.pth', '/elsewhere/gone.pth', '\0\0\0\0', None])
def test_a_useless_pointer_does_no_harm(run, pointer):
    (run / 'last_checkpoint').unlink()
    if pointer is not None:
        (run / 'last_checkpoint').write_text(pointer)
    assert find_newest(run) == run / 'iter_4.pth'


def test_a_folder_can_be_moved_and_copied(run, tmp_path, config):
    assert (run / 'last_checkpoint').read_text() == 'iter_4.pth'
    write_pointer(run, run / 'iter_2.pth')
    copy = shutil.copytree(run, tmp_path / 'copy')
    assert find_newest(copy) == copy / 'iter_2.pth'
    # A pointer of mmengine holds the path of the original, which is there still.
    (copy / 'last_checkpoint').write_text(str(run / 'iter_2.pth'))
    assert find_newest(copy) == copy / 'iter_2.pth'
    moved = run.rename(tmp_path / 'moved')
    assert train(config, work_dir=moved, resume='auto').iter == 4


def test_a_run_that_may_keep_one_file_deletes_it_last(config, tmp_path, monkeypatch):
    options = {
        'default_hooks.checkpoint.interval': 1,
        '+default_hooks.checkpoint.max_keep_ckpts': 1,
        'train_cfg.max_iters': 3,
    }
    train(config, work_dir=tmp_path, cfg_options=options)
    assert names(tmp_path) == ['iter_3.pth']
    seen = []

    def fail(checkpoint, path):
        seen.append(names(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, 'save_checkpoint_atomically', fail)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, resume='auto', cfg_options=options | {'train_cfg.max_iters': 5})
    assert seen == [['iter_3.pth']] and names(tmp_path) == ['iter_3.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_3.pth'
    monkeypatch.undo()
    # A kill after the new file and before the deletion: the next run deletes what is too much.
    shutil.copy(tmp_path / 'iter_3.pth', tmp_path / 'kept.pth')
    train(config, tmp_path, resume='auto', cfg_options=options | {'train_cfg.max_iters': 4})
    shutil.move(tmp_path / 'kept.pth', tmp_path / 'iter_3.pth')
    train(config, tmp_path, resume='auto', cfg_options=options | {'train_cfg.max_iters': 5})
    assert names(tmp_path) == ['iter_5.pth']


def test_the_best_checkpoint_is_deleted_after_the_better_one_is_there(
    config, tmp_path, monkeypatch
):
    options = {
        '+default_hooks.checkpoint.save_best': 'coco/segm_mAP',
        '+default_hooks.checkpoint.rule': 'greater',
        '+default_hooks.checkpoint.max_keep_ckpts': 1,
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
    }
    train(config, work_dir=tmp_path, cfg_options=options)
    best = 'best_coco_segm_mAP_iter_2.pth'
    assert names(tmp_path) == [best, 'iter_2.pth']
    monkeypatch.setattr(
        'isda_suite.metrics.coco.CocoMetric.evaluate', lambda self, size: {'coco/segm_mAP': 2.0}
    )
    real = saving.save_checkpoint_atomically

    def fail(checkpoint, path):
        if 'best' in Path(path).name:
            raise KeyboardInterrupt
        real(checkpoint, path)

    monkeypatch.setattr(saving, 'save_checkpoint_atomically', fail)
    more = options | {'train_cfg.max_iters': 4}
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, resume='auto', cfg_options=more)
    assert best in names(tmp_path)
    monkeypatch.setattr(saving, 'save_checkpoint_atomically', real)
    (tmp_path / 'last_checkpoint').unlink()
    train(config, tmp_path, resume='auto', cfg_options=options | {'train_cfg.max_iters': 6})
    assert names(tmp_path) == ['best_coco_segm_mAP_iter_6.pth', 'iter_6.pth']


def forked(action, output=None):
    """Run a function in a child of this process and return the child's id.

    What it prints goes to the file `output`, if one is given.
    """
    child = os.fork()
    if child:
        return child
    try:
        if output is not None:
            with output.open('wb') as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        action()
        os._exit(0)
    except BaseException as error:
        os.write(2, f'{type(error).__name__}: {error}\n'.encode())
    finally:
        os._exit(1)


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, capfd):
    path = tmp_path / 'iter_1.pth'
    save_file({'state_dict': {'a': torch.zeros(10)}}, path)

    def save_under_a_limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        save_file({'state_dict': {'a': torch.zeros(10**6)}}, path)

    assert os.waitpid(forked(save_under_a_limit), 0)[1] != 0
    message = capfd.readouterr().err
    assert message.startswith(CheckpointWriteError.__name__) and 'It needs 4.0 MB' in message
    assert re.search(r'[\d.]+ (MB|GB) are free', message)
    assert names(tmp_path) == ['iter_1.pth']
    assert len(torch.load(path)['state_dict']['a']) == 10


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
def test_a_gradient_that_is_not_finite_stops_before_anything_is_saved(config, tmp_path, clip):
    options = {'+model.nan_gradient_at': 2}
    if clip:
        options['+optim_wrapper.clip_grad'] = clip
    with pytest.raises(NonFiniteLossError, match='gradient'):
        train(config, tmp_path, cfg_options=options)
    assert names(tmp_path) == []


def test_room_for_two_checkpoints_is_checked_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, 'free_bytes', lambda folder: 3 * 10**9)
    assert check_room(10**9, tmp_path) is None
    warning = check_room(2 * 10**9, tmp_path)
    assert '3.0 GB free' in warning and 'about 2.0 GB' in warning


def test_unfinished_files_of_dead_processes_are_removed(tmp_path):
    dead = forked(lambda: None)
    os.waitpid(dead, 0)
    (tmp_path / f'iter_2.pth.tmp-{dead}').touch()
    (tmp_path / f'iter_2.pth.tmp-{os.getpid()}').touch()
    assert [file.name for file in remove_leftovers(tmp_path)] == [f'iter_2.pth.tmp-{dead}']
    assert names(tmp_path) == [f'iter_2.pth.tmp-{os.getpid()}']


def _kill_while_saving(config, folder, count, seed):
    """Kill a run that saves at every step, `count` times; each time it must be resumable."""
    losses, moments = folder / 'losses.txt', random.Random(seed)
    options = {
        'default_hooks.checkpoint.interval': 1,
        '+default_hooks.checkpoint.max_keep_ckpts': 1,
        'train_cfg.max_iters': 10**6,
        'train_cfg.val_interval': 10**6,
        '+model.ballast': 10**6,
        'custom_hooks': [dict(type='LossFile', path=str(losses))],
    }

    def steps():
        return len(losses.read_text().splitlines()) if losses.exists() else 0

    done = 0
    for _ in range(count):
        output = folder / 'output.txt'
        child = forked(
            lambda: train(config, folder / 'w', resume='auto', cfg_options=options), output
        )
        before, deadline = steps(), time.monotonic() + 120
        while steps() == before and time.monotonic() < deadline:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), output.read_text()[-3000:]
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        newest = find_newest(folder / 'w')
        saved = torch.load(newest, weights_only=False)['meta']['iter']
        last = int(losses.read_text().splitlines()[-1].split()[0]) + 1
        assert saved >= last and saved > done, 'more than one interval was lost'
        done = saved


@pytest.mark.slow
def test_kills_at_random_moments_lose_at_most_one_interval(config, tmp_path):
    torch.set_num_threads(1)  # threads do not survive a fork
    _kill_while_saving(config, tmp_path, 3, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(0)  # a hundred take a quarter of an hour
def test_many_kills_at_random_moments(config, tmp_path):
    torch.set_num_threads(1)
    _kill_while_saving(config, tmp_path, int(os.environ.get('ISDA_KILLS', '20')), seed=1)
