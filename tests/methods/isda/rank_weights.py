"""A hook that keeps what each rank of a training saw and ended with."""

from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RankWeights(Hook):
    """Save the parameters before and after training, and the number of objects, of every rank."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.objects = 0

    def before_train(self, runner):
        self.before = _parameters(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.objects += sum(len(one.gt_instances) for one in data_batch['data_samples'])

    def after_train(self, runner):
        found = {'before': self.before, 'weights': _parameters(runner), 'objects': self.objects}
        torch.save(found, self.folder / f'rank_{runner.rank}.pth')


def _parameters(runner):
    return {
        name.removeprefix('module.'): value.detach().clone()
        for name, value in runner.model.named_parameters()
    }
