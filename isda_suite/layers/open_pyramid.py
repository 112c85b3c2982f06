"""mmdet's pyramid for programs whose height and width stay free."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .module_twins import with_attributes


class OpenPyramid(nn.Module):
    """An ``FPN`` whose coarsest levels are taken by slices.

    mmdet takes every other cell by a pooling of one cell, whose output size PyTorch computes by a
    division that asks whether the input's side is odd: a program of ``torch.export`` would hold
    for such sides alone. The maps are the same to the bit.

    Args:
        neck: The neck, whose weights are shared. Another than an ``FPN``, or one that makes its
            coarsest levels by convolutions, is called as it is.
    """

    def __init__(self, neck: Any) -> None:
        super().__init__()
        pools = type(neck).__name__ == 'FPN' and not neck.add_extra_convs
        self.num_pooled = max(neck.num_outs - len(neck.lateral_convs), 0) if pools else 0
        kept = {'num_outs': len(neck.lateral_convs)} if self.num_pooled else {}
        self.neck = with_attributes(neck, **kept)

    def forward(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """Compute the levels of the pyramid.

        Args:
            feats: Maps of the backbone (B, ·, h, w), finest first.

        Returns:
            Maps (B, C, h, w), finest first.
        """
        levels = list(self.neck(feats))
        for _ in range(self.num_pooled):
            levels.append(levels[-1][..., ::2, ::2])
        return levels
