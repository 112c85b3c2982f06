"""Names of offsets in old checkpoints of deformable convolutions.

Before version 2 of mmcv's packs the convolution that predicts the offsets of ``conv2`` stood beside
it, as ``conv2_offset``; now it is ``conv2.conv_offset``. A hook of the pack cannot rename it: torch
and mmengine show a module only the entries below its own name. The module around it sees both.
"""

import re
from collections.abc import Collection
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

_NEW = re.compile(r'(.+)\.conv_offset\.(weight|bias)')


def rename_old_offsets(state: dict[str, Tensor], names: Collection[str]) -> list[str]:
    """Give old entries the names that a model has now.

    Args:
        state: Entries of a checkpoint; changed in place.
        names: Those of the model. A model that has an entry of the old name keeps it.

    Returns:
        The new names of what was renamed.
    """
    renamed = []
    for name in names:
        found = _NEW.fullmatch(name)
        old = f'{found[1]}_offset.{found[2]}' if found else ''
        if old in state and name not in state and old not in names:
            state[name] = state.pop(old)
            renamed.append(name)
    if renamed:
        print_log(f'{len(renamed)} entries named *_offset are loaded as *.conv_offset', 'current')
    return renamed


def accept_old_offsets(model: nn.Module) -> None:
    """Let a model take old names whoever loads it: torch, mmengine, ``init_cfg``.

    Args:
        model: Modules that hold a deformable pack get a hook.
    """
    for module in model.modules():
        if any('conv_offset' in child._modules for child in module.children()):
            register: Any = module._register_load_state_dict_pre_hook  # untyped in torch
            register(_rename_below, with_module=True)


def _rename_below(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_old_offsets(state, [prefix + name for name in module.state_dict()])
