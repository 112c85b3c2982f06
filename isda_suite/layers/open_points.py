"""mmdet's points of feature maps for graphs whose height and width stay free."""

from typing import Any

import torch
from mmdet.models.task_modules.prior_generators import MlvlPointGenerator
from torch import Tensor


class OpenPointGenerator(MlvlPointGenerator):
    """A ``MlvlPointGenerator`` that says how its grid is indexed.

    mmdet does not, and PyTorch cannot translate that form of ``meshgrid`` to ONNX once sizes are
    free. The points are the same.

    Args:
        generator: The generator of a model.
    """

    def __init__(self, generator: Any) -> None:
        super().__init__(generator.strides, generator.offset)

    def _meshgrid(self, x: Tensor, y: Tensor, row_major: bool = True) -> tuple[Tensor, Tensor]:
        rows, columns = torch.meshgrid(y, x, indexing='ij')
        found = columns.reshape(-1), rows.reshape(-1)
        return found if row_major else found[::-1]
