"""What the log shows beside the losses: how strongly queries answer to pixels of other images."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Responses that are looked at, a few of all.
SEEN_QUERIES, SEEN_ROWS = 64, 1024


@torch.no_grad()
def response_curves(logits: Sequence[Tensor]) -> dict[str, Tensor]:
    """Summarise responses to foreign pixels for the log.

    No name holds the word "loss", by which mmengine finds what it sums.

    Args:
        logits: Responses before the sigmoid, of any shapes.

    Returns:
        ``iuq/p_mean``, the mean response, and ``iuq/p_top1pct``, that of the strongest hundredth;
        nothing without responses.
    """
    flat = [one.detach().float().sigmoid().flatten() for one in logits]
    p = torch.cat(flat) if flat else torch.zeros(0)
    if len(p) == 0:
        return {}
    return {'iuq/p_mean': p.mean(), 'iuq/p_top1pct': p.topk(-(-len(p) // 100)).values.mean()}
