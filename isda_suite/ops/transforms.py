"""``torch.func`` on our operators: derivatives inside of transforms, and vmap of attention.

All operators treat images alone, so the N*B images of N examples go through one call. An operand
that is not mapped is repeated for every example; the levels are the same for all images, so they
cannot be mapped. The rules for convolution stand beside that operator.

Axes: N examples of vmap, B images of an example.
"""

from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

_TABLES = ('spatial_shapes', 'level_start_index')


def split_arguments(args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Split those of an operator of deformable attention, or what stands for each of them.

    Returns:
        The value, the levels (one list or two tables), and the operands behind them.
    """
    end = 1 + _count_levels(args)
    return args[0], args[1:end], args[end:]


def _count_levels(args: tuple[Any, ...]) -> int:
    """How many arguments describe the levels: two tables, or one list of sizes."""
    return 2 if isinstance(args[1], Tensor) else 1


def _refuse_mapped_tables(tables: tuple[Any, ...], in_dims: tuple[Any, ...]) -> None:
    for name, table, axis in zip(_TABLES, tables, in_dims, strict=False):
        if isinstance(table, Tensor) and axis is not None:
            raise ValueError(
                f'{name}: expected the same levels for every example of vmap, '
                f'got a tensor mapped over axis {axis}'
            )


def fold(tensor: Tensor, axis: int | None, examples: int) -> Tensor:
    """Make (N*B, ...) of an operand: repeated if not mapped, copied only if that is needed.

    Args:
        tensor: (B, ...), or with N as one more axis.
        axis: Which axis N is; ``None`` if the operand is not mapped.
        examples: N.
    """
    tensor = tensor.expand(examples, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
    return tensor.flatten(0, 1)


def transformable(
    name: str, save: Callable[..., None], differentiate: Callable[..., Any], rule: Any
) -> Callable[..., Any]:
    """Make a function that calls the operator ``name`` and that torch.func can differentiate too.

    ``torch.library.register_autograd`` makes an ``autograd.Function`` without ``setup_context``,
    which every transform but vmap refuses. Inside of transforms this one stands in for it.

    Args:
        name: Of the operator in our namespace; it may be defined later.
        save: What was given to ``register_autograd`` as ``setup_context``.
        differentiate: What was given to it as the backward.
        rule: What vmap does, as :func:`map_forward` and :func:`map_backward`; called with the
            returned function and what vmap gives.
    """

    def forward(*args: Any) -> Any:
        return getattr(torch.ops.isda_suite, name)(*args)

    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        return rule(call, info, in_dims, *args)

    methods = {
        'forward': staticmethod(forward),
        'setup_context': staticmethod(save),
        'backward': staticmethod(differentiate),
        'vmap': staticmethod(vmap),
    }
    function: Any = type(name, (torch.autograd.Function,), methods)

    def call(*args: Any) -> Any:
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            return function.apply(*args)
        return getattr(torch.ops.isda_suite, name)(*args)

    return call


def map_forward(
    call: Callable[..., Tensor], info: Any, in_dims: tuple[Any, ...], *args: Any
) -> tuple[Tensor, int]:
    """Compute the outputs of all examples at once.

    Args:
        call: The operator.
        info: What vmap says; ``batch_size`` is N.
        in_dims: Mapped axis of every argument, or ``None``.
        *args: Those of the operator, with one list or two tables in the middle.

    Returns:
        (N, B, ...), and the axis of N.

    Raises:
        ValueError: if a table of levels is mapped.
    """
    n = info.batch_size
    end = 1 + _count_levels(args)
    _refuse_mapped_tables(args[1:end], in_dims[1:end])
    operands = map(fold, args[end:], in_dims[end:], repeat(n))
    output = call(fold(args[0], in_dims[0], n), *args[1:end], *operands)
    return unfold(output, n), 0


def map_backward(
    call: Callable[..., tuple[Tensor, ...]], info: Any, in_dims: tuple[Any, ...], *args: Any
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """Compute the gradients of all examples at once; each has its own, also of shared operands.

    Args:
        call: The operator.
        info: What vmap says; ``batch_size`` is N.
        in_dims: Mapped axis of every argument, or ``None``.
        *args: Those of the operator, with one list or two tables in the middle.

    Returns:
        The gradients as (N, B, ...), and the axis of N; ``None`` for one not asked for.

    Raises:
        ValueError: if a table of levels is mapped.
    """
    n = info.batch_size
    mask, end = args[-1], 2 + _count_levels(args[1:])
    _refuse_mapped_tables(args[2:end], in_dims[2:end])
    inputs = map(fold, args[:2], in_dims[:2], repeat(n))
    operands = map(fold, args[end:-1], in_dims[end:-1], repeat(n))
    gradients = call(*inputs, *args[2:end], *operands, mask)
    split = tuple(unfold(g, n) if m else g for g, m in zip(gradients, mask, strict=True))
    return split, tuple(0 if m else None for m in mask)


def unfold(folded: Tensor, examples: int) -> Tensor:
    """Make (N, B, ...) of a folded result (N*B, ...)."""
    return folded.view(examples, folded.shape[0] // max(examples, 1), *folded.shape[1:])
