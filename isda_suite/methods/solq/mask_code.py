"""Masks as short vectors: the low frequencies of their discrete cosine transform."""

import math

import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.registry import TASK_UTILS


def dct_matrix(size: int) -> Tensor:
    r"""Make the orthonormal matrix of the DCT-II.

    .. math:: A_{kx} = \sqrt{2 / n}\,\cos(\pi\,(2 x + 1)\,k / 2 n), \quad
        A_{0x} = \sqrt{1 / n}

    Args:
        size: n.

    Returns:
        (n, n) float64; its transpose is its inverse.
    """
    # On the CPU by name: models are also built on the meta device, and this is no parameter.
    x = torch.arange(size, dtype=torch.float64, device='cpu')
    k = x[:, None]
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * (2 * x + 1) * k / (2 * size))
    matrix[0] /= math.sqrt(2)
    return matrix


def zigzag(size: int, keep: int) -> Tensor:
    """Order the cells of a square by anti-diagonals, lowest frequencies first.

    Odd diagonals run downwards, even ones upwards: (0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2).

    Args:
        size: Side of the square.
        keep: Number of cells wanted.

    Returns:
        (keep, 2) int64, row and column.
    """
    cells = [(row, column) for row in range(size) for column in range(size)]
    cells.sort(key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
    return torch.tensor(cells[:keep], device='cpu')


@TASK_UTILS.register_module()
class DCTMaskCoder:
    r"""Code square masks as the first coefficients of their cosine transform, in zig-zag order.

    Coding is :math:`A\,m\,A^T`, decoding :math:`A^T\,c\,A` with zeros in place of the dropped
    coefficients. Both are products with the few rows of A that matter. The first value is the area
    divided by ``size``, and much larger than most.

    Args:
        size: Side of a mask.
        keep: Length of a code, 1 to ``size`` squared.

    Raises:
        ModelConfigError: if ``keep`` is out of range.

    Source: SOLQ (arXiv:2106.02351), unified query representation.
    """

    def __init__(self, size: int = 128, keep: int = 256) -> None:
        if not 1 <= keep <= size * size:
            raise ModelConfigError(
                f'mask_coder.keep: expected 1 to {size * size} (size {size} squared), got {keep}'
            )
        self.size, self.keep = size, keep
        self.cells = zigzag(size, keep)
        self.band = int(self.cells.max()) + 1
        self.basis = dct_matrix(size)[: self.band]

    def encode(self, masks: Tensor) -> Tensor:
        """Code masks.

        Args:
            masks: (N, size, size) of 0 and 1, any type; N may be 0.

        Returns:
            (N, keep) float32.
        """
        basis, cells = self.basis.to(masks.device, torch.float32), self.cells.to(masks.device)
        with torch.autocast(device_type=masks.device.type, enabled=False):
            coefficients = basis @ masks.float() @ basis.T
        return coefficients[:, cells[:, 0], cells[:, 1]]

    def decode(self, codes: Tensor, step: int = 1) -> Tensor:
        """Restore what the codes know of their masks.

        Args:
            codes: (N, keep).
            step: Only every so many rows and columns of the masks, from the first one.

        Returns:
            (N, size, size) float32, about 0 and 1; with a ``step`` s ceil(size / s) wide and high.
        """
        basis, cells = self.basis.to(codes.device, torch.float32), self.cells.to(codes.device)
        coefficients = codes.new_zeros((len(codes), self.band, self.band), dtype=torch.float32)
        coefficients[:, cells[:, 0], cells[:, 1]] = codes.float()
        basis = basis[:, ::step]
        with torch.autocast(device_type=codes.device.type, enabled=False):
            return basis.T @ coefficients @ basis


def binarise(values: Tensor) -> Tensor:
    """Split decoded masks at the middle between their extremes.

    Compat: whatever the values, every code that is not constant gives a mask.

    Args:
        values: (N, h, w).

    Returns:
        (N, h, w) bool; nothing where all values of a mask are equal.
    """
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    return values > (low + high) / 2
