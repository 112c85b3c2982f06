"""What command lines and configurations of mmdet 2 said about a distributed run, and say no more.

Two jobs on one machine need two ports. They were given by ``--options dist_params.port=29500``, or
by ``dist_params`` in two configurations, one for each job. Both still work, with a notice.
"""

import os
import sys
from typing import Any

OLD, NEW = 'dist_params', 'env_cfg.dist_cfg'


def is_first_process() -> bool:
    """Say whether this is rank 0 of a run, before the ranks are connected."""
    for variable in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        if variable in os.environ:
            return os.environ[variable] == '0'
    return True


def renamed_words(old: list[str]) -> list[str]:
    """Turn the words of ``--options`` into words of ``--cfg-options``, with a notice.

    Args:
        old: Words ``key=value``.
    """
    words = [
        f'+{NEW}.{word.removeprefix(f"{OLD}.")}' if word.startswith(f'{OLD}.') else word
        for word in old
    ]
    if words:
        _notice(
            f'--options {" ".join(old)}: now --cfg-options {" ".join(words)}, which is what '
            'this run takes it for'
        )
    return words


def take_old_dist_params(cfg: Any) -> None:
    """Give ``dist_params`` of a configuration its present place, with a notice.

    Args:
        cfg: Changed in place; what is in the present place already stays.
    """
    old = cfg.get(OLD)
    if not isinstance(old, dict):
        return
    cfg.pop(OLD)
    present = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
    # Every configuration inherits a back-end; the old way said it again.
    taken = {key: value for key, value in old.items() if key not in present or key == 'backend'}
    cfg.merge_from_dict({f'{NEW}.{key}': value for key, value in taken.items()})
    words = ', '.join(f'{key}={value!r}' for key, value in taken.items())
    _notice(
        f'{cfg.filename or "the configuration"}: {OLD} is now env_cfg=dict(dist_cfg=dict(...)), '
        f'which is what this run takes it for: {words}'
    )


def _notice(text: str) -> None:
    if is_first_process():
        print(text, file=sys.stderr)
