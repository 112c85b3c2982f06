"""What the ranks of a run tell each other."""

import torch
from mmengine.dist import all_reduce, get_world_size


def on_any_rank(mine: bool) -> bool:
    """Return whether something holds on at least one rank; every rank has to call this."""
    if get_world_size() == 1:
        return mine
    flag = torch.tensor(float(mine))
    all_reduce(flag, 'max')
    return bool(flag.item() > 0)
