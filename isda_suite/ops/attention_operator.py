"""What the operators of deformable attention have in common, but for their kernels.

Their arguments are a value, the levels (one list of sizes, or two tables), and the operands that
say where the value is sampled and what the samples weigh. The compiled library brings the schemas
and the kernels for CPU and CUDA; without it the schemas are defined here. In both cases the
reference serves every device that has no compiled kernel, and fake kernels, autograd, autocast and
vmap are registered here, so ``torch.ops.isda_suite`` looks and behaves the same either way.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import checks
from .library import LIBRARY
from .reference import Level, arithmetic_dtype
from .transforms import map_backward, map_forward, split_arguments, transformable

NAMESPACE = 'isda_suite'
_LEVELS = {
    '': 'Tensor spatial_shapes, Tensor level_start_index',
    '.list': 'SymInt[] spatial_shapes',
}
# Any: torch leaves its methods untyped.
_fragment: Any = torch.library.Library(NAMESPACE, 'FRAGMENT')  # type: ignore[no-untyped-call]


class AttentionOperator:
    """An operator of deformable attention and its backward, each with tables or with a list.

    Args:
        name: In our namespace; the backward has ``_backward`` behind it.
        operands: Names of what follows value and levels; all are (B, Q, ...).
        check: Called with the value, the number of levels and the operands; raises what the
            compiled kernels raise.
        forward: The operator in plain PyTorch, of value, levels and operands.
        backward: Its gradients of value and operands, of the upstream gradient and the same;
            differentiable.
        kept: Operands that autocast leaves in the dtype of ``value``. All others go to the
            arithmetic dtype, because 16 bits do not say where a point lies.

    Attributes:
        forward: As given.
        backward: As given.
        schemas: What csrc/registration.cpp defines too, by name; a test compares the two.
        call: Calls the operator; can be differentiated by torch.func too.
        call_backward: The same for its backward.
    """

    def __init__(
        self,
        name: str,
        operands: tuple[str, ...],
        check: Callable[..., None],
        forward: Callable[..., Tensor],
        backward: Callable[..., tuple[Tensor, ...]],
        kept: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.operands = operands
        self.kept = kept
        self._check_operands = check
        self.forward, self.backward = forward, backward
        tensors = ', '.join(f'Tensor {operand}' for operand in operands)
        gradients = ', '.join(['Tensor'] * (1 + len(operands)))
        self.schemas: dict[str, str] = {}
        for overload, levels in _LEVELS.items():
            self.schemas[name + overload] = f'(Tensor value, {levels}, {tensors}) -> Tensor'
            self.schemas[f'{name}_backward{overload}'] = (
                f'(Tensor grad_output, Tensor value, {levels}, {tensors}, '
                f'bool[{1 + len(operands)}] output_mask) -> ({gradients})'
            )
        self.call = transformable(name, _save_operands, self._differentiate, map_forward)
        self.call_backward = transformable(
            f'{name}_backward', _save_for_second, self._differentiate_twice, map_backward
        )

    def __call__(
        self,
        value: Tensor,
        spatial_shapes: Tensor | Sequence[tuple[int, int]],
        level_start_index: Tensor | None,
        *operands: Tensor,
    ) -> Tensor:
        """Compute the output, with levels as users write them."""
        checks.refuse_tangents(self.name, value, *operands)
        if not isinstance(spatial_shapes, Tensor):
            if level_start_index is not None:
                raise TypeError(
                    'level_start_index: expected None beside a sequence of spatial_shapes, '
                    f'got {type(level_start_index).__name__}'
                )
            flat = [size for pair in spatial_shapes for size in pair]
            output: Tensor = self.call(value, flat, *operands)
            return output
        if level_start_index is None:
            areas = spatial_shapes.prod(1)
            level_start_index = areas.cumsum(0) - areas
        output = self.call(value, spatial_shapes, level_start_index, *operands)
        return output

    def _check(self, args: tuple[Any, ...]) -> None:
        """Check everything that can be checked without reading the tables."""
        value, levels, operands = split_arguments(args)
        if len(levels) == 1:
            num_levels = checks.check_flat_shapes(levels[0])
        else:
            checks.check_index_tensors(value, *levels)
            num_levels = levels[0].shape[0]
        self._check_operands(value, num_levels, *operands)

    def _check_backward(self, grad_output: Tensor, args: tuple[Any, ...]) -> None:
        self._check(args)
        value, _, operands = split_arguments(args)
        checks.check_grad_output(grad_output, value, operands[-1].shape[1])

    def forward_reference(self, *args: Any) -> Tensor:
        """Compute the output in plain PyTorch; the kernel where no compiled one fits."""
        self._check(args)
        value, levels, operands = split_arguments(args)
        return self.forward(value, _read_levels(value, levels), *operands)

    def backward_reference(self, grad_output: Tensor, *args: Any) -> tuple[Tensor, ...]:
        """Compute the gradients asked for in plain PyTorch."""
        *inputs, mask = args
        self._check_backward(grad_output, tuple(inputs))
        value, levels, operands = split_arguments(tuple(inputs))
        gradients = self.backward(grad_output, value, _read_levels(value, levels), *operands)
        return asked_for(gradients, value, mask)

    def _forward_fake(self, *args: Any) -> Tensor:
        self._check(args)
        value, _, operands = split_arguments(args)
        b, _, m, c = value.shape
        return value.new_empty((b, operands[-1].shape[1], m * c))

    def _backward_fake(self, grad_output: Tensor, *args: Any) -> tuple[Tensor, ...]:
        *inputs, mask = args
        self._check_backward(grad_output, tuple(inputs))
        value, _, operands = split_arguments(tuple(inputs))
        gradients = tuple(tensor.new_empty(tensor.shape) for tensor in (value, *operands))
        return asked_for(gradients, value, mask)

    def _differentiate(self, ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors  # once: checkpointing forbids more
        count = 1 + len(self.operands)
        value, *operands = saved[:count]
        levels = [ctx.shapes] if ctx.in_list else saved[count:]
        needed = ctx.needs_input_grad
        mask = [needed[0], *needed[-len(operands) :]]
        gradients = self.call_backward(grad_output, value, *levels, *operands, mask)
        first, *others = (g if m else None for g, m in zip(gradients, mask, strict=True))
        return first, *(None for _ in levels), *others

    def _differentiate_twice(self, ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Gradients of the gradients, by differentiating the reference; rare, slow is fine."""
        saved = ctx.saved_tensors
        count = 2 + len(self.operands)
        inputs = saved[:count]
        levels = (ctx.shapes,) if ctx.in_list else saved[count:]
        known = _read_levels(inputs[1], levels)

        def first(grad_output: Tensor, value: Tensor, *operands: Tensor) -> list[Tensor]:
            gradients = self.backward(grad_output, value, known, *operands)
            return [g for g, asked in zip(gradients, ctx.mask, strict=True) if asked]

        vjp: Any = torch.func.vjp  # typed as if it always returned what has_aux adds
        _, pull_back = vjp(first, *inputs)
        second = pull_back([g for g, asked in zip(grads, ctx.mask, strict=True) if asked])
        return *second[:2], *(None for _ in levels), *second[2:], None

    def _under_autocast(self, overload: Callable[..., Any], device: str) -> Callable[..., Any]:
        """Keep ``value`` as it is; bring the operands to dtypes that fit beside it.

        ``torch.library.register_autocast`` casts every operand to one dtype, which would round the
        locations, so this is registered by hand.
        """
        key = getattr(torch._C.DispatchKey, f'Autocast{device}')
        excluded = torch._C.DispatchKeySet(key)

        def kernel(*args: Any) -> Any:
            value, levels, operands = split_arguments(args)
            cast = [
                tensor
                if name in self.kept and tensor.dtype == value.dtype
                else tensor.to(arithmetic_dtype(value))
                for name, tensor in zip(self.operands, operands, strict=True)
            ]
            with torch._C._ExcludeDispatchKeyGuard(excluded):
                return overload(value, *levels, *cast)

        return kernel

    def register(self) -> None:
        """Define the operator where the library does not, and register everything about it."""
        for overload in _LEVELS:
            name, backward = self.name + overload, f'{self.name}_backward{overload}'
            for each in (name, backward):
                if not LIBRARY.loaded:
                    tags = (torch.Tag.pt2_compliant_tag,)
                    _fragment.define(each + self.schemas[each], tags=tags)
            _register(
                name,
                self.forward_reference,
                self._forward_fake,
                self._differentiate,
                _save_operands,
                map_forward,
            )
            _register(
                backward,
                self.backward_reference,
                self._backward_fake,
                self._differentiate_twice,
                _save_for_second,
                map_backward,
            )
            packet = getattr(torch.ops.isda_suite, self.name)
            operator = getattr(packet, overload.removeprefix('.') or 'default')
            for device in ('CPU', 'CUDA'):
                _fragment.impl(name, self._under_autocast(operator, device), f'Autocast{device}')


def _register(
    name: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    differentiate: Callable[..., Any],
    save: Callable[..., None],
    rule: Callable[..., Any],
) -> None:
    """Register all about one operator that forward and backward have alike."""
    qualified = f'{NAMESPACE}::{name}'
    _fragment.impl(name, reference, 'CompositeExplicitAutograd')
    torch.library.register_fake(qualified, fake, lib=_fragment)
    torch.library.register_autograd(qualified, differentiate, setup_context=save, lib=_fragment)
    if hasattr(torch.library, 'register_vmap'):  # since torch 2.5
        packet = getattr(torch.ops.isda_suite, name.partition('.')[0])
        torch.library.register_vmap(qualified, partial(rule, packet), lib=_fragment)


def asked_for(
    gradients: tuple[Tensor, ...], value: Tensor, mask: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Put an empty tensor in the place of every gradient that is not asked for."""
    zipped = zip(gradients, mask, strict=True)
    return tuple(g if asked else value.new_empty(0) for g, asked in zipped)


def _read_levels(value: Tensor, levels: Sequence[Any]) -> list[Level]:
    if len(levels) == 1:
        return checks.levels_from_list(value, levels[0])
    return checks.levels_from_tensors(value, *levels)


def _save_operands(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, levels, operands = split_arguments(inputs)
    _save(ctx, levels, value, *operands)


def _save_for_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_output, *rest, ctx.mask = inputs
    value, levels, operands = split_arguments(tuple(rest))
    _save(ctx, levels, grad_output, value, *operands)


def _save(ctx: Any, levels: tuple[Any, ...], *tensors: Tensor) -> None:
    ctx.in_list = len(levels) == 1
    ctx.shapes = levels[0] if ctx.in_list else None
    ctx.save_for_backward(*tensors, *(() if ctx.in_list else levels))
