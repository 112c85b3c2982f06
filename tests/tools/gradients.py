"""Compare the first gradients of two ranks with those of one rank and twice the batch."""

from pathlib import Path

import torch

from isda_suite.apis.train import train
from tests.tools.running import ROOT, run

_WRAPPER = """
_base_ = ['{config}']
custom_imports = dict(imports=['isda_suite', 'tests.engine.toy'], allow_failed_imports=False)
default_hooks = dict(gradients=dict(type='GradientFile', path='{path}'))
train_dataloader = dict(batch_size={batch_size})
{extra}
"""


def first_gradients(config, folder, ranks, batch_size, extra=''):
    """Train and return the first gradients: several gloo ranks are started by dist_train.sh.

    All images must have one padded size, and the data loader must not shuffle.

    Args:
        config: A configuration file; it is inherited by one that saves the gradients.
        folder: An empty folder for the run.
        ranks: Number of processes; one rank is this process, without a group.
        batch_size: Images for each of them.
        extra: Further text of the inheriting configuration.

    Returns:
        Gradients by parameter name, averaged over the ranks, before the optimizer's step.
    """
    folder = Path(folder)
    wrapper, path = folder / f'ranks_{ranks}.py', folder / f'gradients_{ranks}.pth'
    wrapper.write_text(
        _WRAPPER.format(
            config=Path(config).resolve(), path=path, batch_size=batch_size, extra=extra
        )
    )
    if ranks == 1:
        train(wrapper, work_dir=folder / 'w_1')
        return torch.load(path)
    done = run(ROOT / 'tools/dist_train.sh', wrapper, ranks, '--work-dir', folder / f'w_{ranks}')
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path)


def largest_relative_difference(first, second):
    """Return the largest difference, relative to the largest entry of its parameter."""
    assert first.keys() == second.keys()
    return max(
        ((first[name] - second[name]).abs().max() / first[name].abs().max().clamp(min=1e-12)).item()
        for name in first
    )
