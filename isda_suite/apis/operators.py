"""Say once, at the start of a run, which kernels it will use."""

from typing import Any

import torch

from isda_suite.ops import info


def operators_line() -> str:
    """Return one line about our operators on the device of this process."""
    found = info()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    kinds = ', '.join(f'{name} {kinds[device]}' for name, kinds in found['ops'].items())
    reason = found['reason'] or (found['cuda_reason'] if device == 'cuda' else None)
    why = f' ({reason})' if reason else ''
    place = "; in the place of mmcv's" if found['mmcv_patched'] else ''
    return f'operators on {device}: {kinds}{why}{place}; torch {found["torch"]}'


def log_operators(runner: Any) -> None:
    """Write :func:`operators_line` into the log of a run.

    Args:
        runner: mmengine's runner.
    """
    runner.logger.info(operators_line())
