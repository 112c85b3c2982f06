"""Ranks on CPUs: what they read from each launcher, and two of them training together."""

import os
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from isda_suite.compat import gloo
from tests.tools.running import free_port

SLURM = {'SLURM_PROCID': '5', 'SLURM_NTASKS': '8', 'SLURM_LOCALID': '1'}


@pytest.fixture
def no_scontrol(monkeypatch):
    monkeypatch.setattr(gloo.shutil, 'which', lambda name: None)


def test_torchrun_is_taken_as_it_is():
    environment = {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': 'host', 'MASTER_PORT': '1234'}
    ranks = gloo.rank_environment('pytorch', environment, port=29501)
    assert ranks == {**environment, 'LOCAL_RANK': '0'}


def test_missing_variables_name_the_launcher_to_use():
    with pytest.raises(ValueError, match=r'pytorch found no RANK.*torchrun.*--launcher none'):
        gloo.rank_environment('pytorch', {})
    with pytest.raises(ValueError, match=r'SLURM_PROCID.*srun'):
        gloo.rank_environment('slurm', {})
    with pytest.raises(ValueError, match=r'SLURM_NODELIST.*srun'):
        gloo.rank_environment('slurm', SLURM)
    with pytest.raises(ValueError, match=r'OMPI_COMM_WORLD_RANK.*mpirun'):
        gloo.rank_environment('mpi', {})


def test_slurm_on_several_nodes(no_scontrol):
    environment = {**SLURM, 'SLURM_NODELIST': 'gpu[03-05,07],cpu1', 'SLURM_NNODES': '4'}
    assert gloo.rank_environment('slurm', environment, port=29511) == {
        'RANK': '5', 'WORLD_SIZE': '8', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'gpu03',
        'MASTER_PORT': '29511',
    }  # fmt: skip


def test_slurm_on_one_node_uses_the_loopback_address_and_the_default_port(no_scontrol):
    environment = {**SLURM, 'SLURM_JOB_NODELIST': 'node1', 'SLURM_NNODES': '1'}
    ranks = gloo.rank_environment('slurm', environment)
    assert (ranks['MASTER_ADDR'], ranks['MASTER_PORT']) == ('127.0.0.1', '29500')


@pytest.mark.parametrize(
    'nodes, first',
    [
        ('node7', 'node7'),
        ('a1,b2', 'a1'),
        ('gpu[03-05,07],cpu1', 'gpu03'),
        ('gpu[07,09]', 'gpu07'),
        ('rack[1-2]n[3,4]-ib,x', 'rack1n3-ib'),
    ],
)
def test_first_node_without_scontrol(no_scontrol, nodes, first):
    assert gloo.first_slurm_node(nodes) == first


def test_first_node_from_scontrol(tmp_path, monkeypatch):
    program = tmp_path / 'scontrol'
    program.write_text('#!/bin/sh\n[ "$3" = "x[1-2]" ] && printf "first\\nsecond\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    assert gloo.first_slurm_node('x[1-2]') == 'first'
    assert gloo.first_slurm_node('y[3-4]') == 'y3'  # scontrol failed


def test_mpi_on_one_node_and_on_several():
    prefix = 'OMPI_COMM_WORLD_'
    environment = {f'{prefix}RANK': '2', f'{prefix}SIZE': '4', f'{prefix}LOCAL_RANK': '0'}
    with pytest.raises(ValueError, match='MASTER_ADDR'):
        gloo.rank_environment('mpi', environment)
    environment[f'{prefix}LOCAL_SIZE'] = '4'
    ranks = gloo.rank_environment('mpi', environment)
    assert ranks['MASTER_ADDR'] == '127.0.0.1'
    assert (ranks['RANK'], ranks['WORLD_SIZE']) == ('2', '4')


def test_one_process_starts_nothing_and_unknown_launchers_are_named():
    assert gloo.start_gloo_without_gpu('none') is False
    with pytest.raises(ValueError, match="none, pytorch, slurm, mpi, got 'torch'"):
        gloo.start_gloo_without_gpu('torch')


def test_with_an_accelerator_mmengine_starts_the_group(monkeypatch):
    monkeypatch.setattr(gloo, 'has_accelerator', lambda: True)
    assert gloo.start_gloo_without_gpu('pytorch') is False


def test_sync_bn_is_replaced_at_every_depth_and_the_original_kept():
    norm = dict(type='SyncBN', requires_grad=True)
    cfg = ConfigDict(norm_cfg=norm, heads=[dict(norm_cfg=dict(type='MMSyncBN'))], pair=(norm, 1))
    changed = gloo.without_sync_bn(cfg)
    assert isinstance(changed, ConfigDict)
    assert changed.norm_cfg == dict(type='BN', requires_grad=True)
    assert changed.heads[0].norm_cfg.type == 'BN'
    assert changed.pair[0].type == 'BN'
    assert cfg.norm_cfg.type == 'SyncBN'
    assert gloo.without_sync_bn(OrderedDict(type='mmdet.SyncBN'))['type'] == 'BN'
    assert gloo.without_sync_bn(dict(type='GN', num_groups=2)) == dict(type='GN', num_groups=2)


def test_sync_bn_given_as_a_class_is_replaced():
    from torch import nn

    assert gloo.without_sync_bn(dict(type=nn.SyncBatchNorm))['type'] == 'BN'
    assert gloo.without_sync_bn(dict(type=nn.BatchNorm2d))['type'] is nn.BatchNorm2d


@pytest.mark.ranks
def test_two_ranks_train_through_the_runner(tmp_path):
    """mmengine's Runner keeps the group and wraps the model for CPUs."""
    script = tmp_path / 'train.py'
    script.write_text(
        textwrap.dedent("""
        import sys
        import torch
        from mmengine.model import BaseModel
        from mmengine.runner import Runner
        from isda_suite.compat.gloo import cpu_ddp_wrapper_cfg, start_gloo_without_gpu

        class Model(BaseModel):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))
            def forward(self, inputs, mode='loss'):
                return dict(loss=(self.weight * inputs).sum())

        assert start_gloo_without_gpu('pytorch', timeout_s=60)
        assert start_gloo_without_gpu('pytorch')
        rank = torch.distributed.get_rank()
        data = [torch.tensor([1.0]), torch.tensor([3.0])]
        runner = Runner(
            Model(), sys.argv[1], launcher='pytorch',
            cfg=dict(model_wrapper_cfg=cpu_ddp_wrapper_cfg()),
            train_dataloader=dict(batch_size=1, dataset=data,
                                  sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
            default_hooks=dict(checkpoint=None), log_level='ERROR')
        runner.train()
        print(f'rank={rank} weight={float(runner.model.module.weight.detach())}')
        """)
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
               f'--master_port={free_port()}', str(script), str(tmp_path / 'work')]  # fmt: skip
    root = str(Path(gloo.__file__).parents[2])
    environment = {**os.environ, 'PYTHONPATH': root, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    # the mean of the gradients 1 and 3
    for rank in (0, 1):
        assert f'rank={rank} weight=-2.0' in result.stdout
