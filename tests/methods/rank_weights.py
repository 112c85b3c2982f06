"""Two ranks on the CPU, and a hook that keeps what each of them saw and ended with."""

import subprocess
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from tests.tools.running import ROOT, environment, free_port


@HOOKS.register_module()
class RankWeights(Hook):
    """Save the parameters before and after training, and the number of targets, of every rank."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.targets = 0

    def before_train(self, runner):
        self.before = _parameters(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.targets += sum(map(_targets_of, data_batch['data_samples']))

    def after_train(self, runner):
        found = {'before': self.before, 'weights': _parameters(runner), 'targets': self.targets}
        torch.save(found, self.folder / f'rank_{runner.rank}.pth')


def _targets_of(sample):
    """Count objects, in all frames of a clip, or labelled pixels."""
    if 'video_data_samples' in sample:
        return sum(int(frame.gt_instances.valid.sum()) for frame in sample.video_data_samples)
    if 'gt_instances' in sample:
        return len(sample.gt_instances)
    return int((sample.gt_sem_seg.data != 255).sum())


def _parameters(runner):
    return {
        name.removeprefix('module.'): value.detach().clone()
        for name, value in runner.model.named_parameters()
    }


def train_on_two_ranks(config, folder, **variables):
    """Train on two gloo ranks, started as mpirun does.

    Returns what each rank wrote to its error stream, and what its hook RankWeights saved.
    """
    port = str(free_port())
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(config), '--launcher', 'mpi']
    ranks = []
    for rank in ('0', '1'):
        prefix = 'OMPI_COMM_WORLD_'
        own = {f'{prefix}RANK': rank, f'{prefix}LOCAL_RANK': rank, f'{prefix}SIZE': '2',
               f'{prefix}LOCAL_SIZE': '2', 'MASTER_PORT': port}  # fmt: skip
        ranks.append(
            subprocess.Popen(
                [*command, '--work-dir', str(folder / 'w'), '--seed', '0'],
                env=environment(**own, **variables),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [one.communicate(timeout=300)[1] for one in ranks]
    assert [one.returncode for one in ranks] == [0, 0], said
    return said, [torch.load(folder / f'rank_{rank}.pth') for rank in (0, 1)]


def assert_only_the_first_rank_had_targets(first, second, parts):
    """Both ranks end with the same finite parameters, and every part has moved."""
    assert first['targets'] > 0 and second['targets'] == 0
    assert first['weights'].keys() == second['weights'].keys()
    for name, value in first['weights'].items():
        assert torch.equal(value, second['weights'][name]), name
        assert torch.isfinite(value).all(), name
    moved = [n for n, v in first['weights'].items() if not torch.equal(v, first['before'][n])]
    assert {name.split('.')[0] for name in moved} >= set(parts)
