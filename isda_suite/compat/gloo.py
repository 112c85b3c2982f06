"""Several processes on a machine without an accelerator, which mmengine alone cannot start.

mmengine selects a CUDA device for every rank and gives it to the model's wrapper. Both fail
without one: start the process group here before the Runner is made (it then keeps its hands off),
give the Runner the wrapper of :func:`cpu_ddp_wrapper_cfg`, and keep its ``launcher`` as it is.
"""

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from typing import Any

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')

_DEFAULT_PORT = '29500'
_SYNC_BN = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm', 'torch.nn.SyncBatchNorm', 'naiveSyncBN')


def has_accelerator() -> bool:
    """Say whether ranks can have a device each, of a kind that mmengine starts by itself."""
    from mmengine.device import get_device

    return get_device() in ('cuda', 'npu', 'mlu', 'musa')


def start_gloo_without_gpu(launcher: str, timeout_s: float = 1800, port: int | None = None) -> bool:
    """Start the gloo process group of a distributed run on CPUs.

    RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are read from the environment
    (pytorch) or derived from the launcher's variables and set (slurm, mpi), as mmengine does.

    Args:
        launcher: none, pytorch, slurm or mpi.
        timeout_s: Seconds after which a rank that waits for the others gives up.
        port: Port of rank 0; ``None`` takes MASTER_PORT or 29500. torchrun has set it already.

    Returns:
        Whether the ranks of this run compute on CPUs, so that the model needs
        :func:`cpu_ddp_wrapper_cfg`. ``False`` with launcher none or with an accelerator: mmengine
        starts those itself.

    Raises:
        ValueError: if the launcher is unknown or its variables are missing.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f'launcher must be one of {", ".join(LAUNCHERS)}, got {launcher!r}')
    if launcher == 'none' or has_accelerator():
        return False
    import torch.distributed as dist

    if dist.is_initialized():
        return True
    os.environ.update(rank_environment(launcher, os.environ, port))
    dist.init_process_group('gloo', timeout=timedelta(seconds=timeout_s))
    return True


def rank_environment(
    launcher: str, environment: Mapping[str, str], port: int | None = None
) -> dict[str, str]:
    """Return what ``torch.distributed`` needs to know about this rank.

    Args:
        launcher: pytorch, slurm or mpi.
        environment: Variables that the launcher set.
        port: See :func:`start_gloo_without_gpu`.

    Returns:
        RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.

    Raises:
        ValueError: if the launcher's variables are missing.
    """
    readers = {'pytorch': _pytorch_ranks, 'slurm': _slurm_ranks, 'mpi': _mpi_ranks}
    ranks = readers[launcher](environment)
    if launcher == 'pytorch' or port is None:
        ranks['MASTER_PORT'] = environment.get('MASTER_PORT', _DEFAULT_PORT)
    else:
        ranks['MASTER_PORT'] = str(port)
    return ranks


def cpu_ddp_wrapper_cfg() -> dict[str, Any]:
    """Return the ``model_wrapper_cfg`` for ranks on CPUs; the stock one insists on a device."""
    return dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=False,
    )


def without_sync_bn(cfg: Any) -> Any:
    """Replace synchronised batch normalisation, which needs CUDA, by the ordinary one.

    Args:
        cfg: Part of a config: a dict, list or tuple, nested at will (``cfg.model``).

    Returns:
        A copy of the same kind with ``type='BN'`` wherever a synchronised type stood.
    """
    if isinstance(cfg, MutableMapping):
        result = copy.copy(cfg)
        for key, value in cfg.items():
            result[key] = without_sync_bn(value)
        kind = cfg.get('type')
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        if name.rpartition('.')[2] in _SYNC_BN or name in _SYNC_BN:
            result['type'] = 'BN'
        return result
    if isinstance(cfg, list | tuple):
        return type(cfg)(without_sync_bn(value) for value in cfg)
    return cfg


def _need(environment: Mapping[str, str], launcher: str, started_by: str, *names: str) -> None:
    missing = [name for name in names if name not in environment]
    if missing:
        raise ValueError(
            f'--launcher {launcher} found no {", ".join(missing)} in the environment: start the '
            f'command with {started_by}, or use --launcher none for one process'
        )


def _pytorch_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    _need(environment, 'pytorch', 'torchrun', 'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
    return {
        'RANK': environment['RANK'],
        'WORLD_SIZE': environment['WORLD_SIZE'],
        'LOCAL_RANK': environment.get('LOCAL_RANK', '0'),
        'MASTER_ADDR': environment['MASTER_ADDR'],
    }


def _mpi_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    prefix = 'OMPI_COMM_WORLD_'
    names = [f'{prefix}RANK', f'{prefix}SIZE', f'{prefix}LOCAL_RANK']
    _need(environment, 'mpi', 'mpirun of Open MPI', *names)
    one_node = environment.get(f'{prefix}LOCAL_SIZE') == environment[f'{prefix}SIZE']
    if not one_node:
        _need(environment, 'mpi', 'mpirun -x MASTER_ADDR=<host of rank 0>', 'MASTER_ADDR')
    return {
        'RANK': environment[f'{prefix}RANK'],
        'WORLD_SIZE': environment[f'{prefix}SIZE'],
        'LOCAL_RANK': environment[f'{prefix}LOCAL_RANK'],
        'MASTER_ADDR': environment.get('MASTER_ADDR', '127.0.0.1'),
    }


def _slurm_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    _need(environment, 'slurm', 'srun', 'SLURM_PROCID', 'SLURM_NTASKS')
    nodes = environment.get('SLURM_NODELIST') or environment.get('SLURM_JOB_NODELIST')
    if nodes is None:
        _need(environment, 'slurm', 'srun', 'SLURM_NODELIST')
    address = environment.get('MASTER_ADDR')
    if address is None:
        count = environment.get('SLURM_NNODES') or environment.get('SLURM_JOB_NUM_NODES')
        # On one node the loopback address works whatever the node's name resolves to.
        address = '127.0.0.1' if count == '1' else first_slurm_node(nodes or '')
    return {
        'RANK': environment['SLURM_PROCID'],
        'WORLD_SIZE': environment['SLURM_NTASKS'],
        'LOCAL_RANK': environment.get('SLURM_LOCALID', '0'),
        'MASTER_ADDR': address,
    }


def first_slurm_node(nodes: str) -> str:
    """Return the first host of a SLURM node list such as ``gpu[03-05,07],cpu1``.

    ``scontrol`` is asked where it is installed; without it the list is read here.
    """
    if shutil.which('scontrol'):
        command = ['scontrol', 'show', 'hostnames', nodes]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.split()[0]
    first = re.match(r'(?:[^,\[]|\[[^\]]*\])*', nodes)
    return re.sub(r'\[([^\],-]*)[^\]]*\]', r'\1', first.group(0) if first else nodes)
