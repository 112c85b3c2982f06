"""Record where queries look as a model runs: points of deformable attention, dense maps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isda_suite.engine.errors import ConfigError

PARTS = ('encoder', 'decoder')
_DEFORMABLE = ('sampling_offsets', 'attention_weights', 'value_proj', 'num_points')


class SampledPoints(NamedTuple):
    """Where the queries of one layer and image look.

    Axes: Q queries, M heads, L levels, P points.

    Attributes:
        locations: (Q, M, L, P, 2) as (x, y), 0..1 across a level with its padding.
        weights: (Q, M, L, P), of a query and head summing to 1.
        reference: (Q, L or 1, 2 or 4) as (x, y) or (x, y, w, h).
        shapes: L times (h, w).
    """

    locations: Tensor
    weights: Tensor
    reference: Tensor
    shapes: list[tuple[int, int]]


class Recording:
    """What a layer was given in the last forward pass; see :func:`recorded`."""

    def __init__(self) -> None:
        self.points: SampledPoints | None = None
        self.inputs: tuple[Any, ...] = ()


def deformable_layers(model: nn.Module, part: str) -> list[nn.Module]:
    """Return the deformable attentions of the encoder or decoder, in the order of the layers."""
    return [
        module
        for name, module in model.named_modules()
        if part in name.split('.') and all(hasattr(module, key) for key in _DEFORMABLE)
    ]


def choose_layer(layers: Sequence[Any], number: int, what: str) -> Any:
    """Return a layer by its number from 0, or from the end if negative.

    Raises:
        ConfigError: if there is none, or not that many.
    """
    if not layers:
        raise ConfigError(
            f'{what}: this model has no such layers; ISDA and SOLQ have deformable attention in '
            'encoder and decoder, DefVisTR in the encoder of its variants instance_token and '
            'frame_query'
        )
    if not -len(layers) <= number < len(layers):
        raise ConfigError(f'--layer {number}: {what} has {len(layers)} layers, from 0')
    return layers[number]


@contextmanager
def recorded(layer: nn.Module) -> Iterator[Recording]:
    """Record what a deformable attention does while the block runs."""
    found = Recording()

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.points = _points_of(module, args, kwargs)

    handle = layer.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def recorded_inputs(layer: nn.Module) -> Iterator[Recording]:
    """Record the positional inputs of a layer while the block runs."""
    found = Recording()

    def before(module: Any, args: tuple[Any, ...]) -> None:
        found.inputs = args

    handle = layer.register_forward_pre_hook(before)
    try:
        yield found
    finally:
        handle.remove()


def _points_of(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SampledPoints:
    """Compute the points of the first image as the attention does itself."""
    query = args[0] if args else kwargs['query']
    position = kwargs.get('query_pos')
    query = query if position is None else query + position
    query = (query if module.batch_first else query.transpose(0, 1))[0].detach()
    reference = kwargs['reference_points'][0].detach().float()
    shapes = [(int(h), int(w)) for h, w in kwargs['spatial_shapes']]
    size = (len(query), module.num_heads, len(shapes), module.num_points)
    offsets = module.sampling_offsets(query).view(*size, 2).float()
    weights = module.attention_weights(query).view(*size[:2], -1).float().softmax(-1).view(size)
    centre = reference[:, None, :, None, :2]
    if reference.shape[-1] == 2:
        widths = torch.tensor([[w, h] for h, w in shapes], device=offsets.device)
        locations = centre + offsets / widths[:, None]
    else:
        box = reference[:, None, :, None, 2:]
        locations = centre + offsets / (2 * module.num_points) * box
    return SampledPoints(locations.cpu(), weights.cpu(), reference.cpu(), shapes)


def dense_weights(attention: Any, inputs: tuple[Any, ...], rows: Sequence[int]) -> Tensor:
    """Compute what some queries of DefVisTR's dense attention look at.

    Args:
        attention: A :class:`isda_suite.methods.defvistr.attention.FusedAttention`.
        inputs: Its inputs: queries, their position, memory, its position, allowed keys.
        rows: The queries.

    Returns:
        (rows, M, S), of a query and head summing to 1.
    """
    query, query_pos, memory, memory_pos, allowed = inputs
    attn, heads = attention.attn, attention.num_heads
    weights, biases = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)
    chosen = torch.as_tensor(rows, device=query.device)
    q = (query[:1] + query_pos)[0, chosen].detach()
    k = (memory[0] + memory_pos[0]).detach()
    q, k = (
        nn.functional.linear(x, w, b).view(len(x), heads, -1).transpose(0, 1)
        for x, w, b in zip((q, k), weights, biases, strict=False)
    )
    logits = (q @ k.mT).float() / q.shape[-1] ** 0.5
    if allowed is not None:
        some = allowed[0].expand(1, len(query[0]), -1)[:, chosen]
        logits = logits.masked_fill(~some, float('-inf'))
    return logits.softmax(-1).transpose(0, 1).detach().cpu()
