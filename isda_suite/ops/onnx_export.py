"""ONNX: our operators as standard ones, or as the node of TensorRT's plug-in.

Attention is by default decomposed into gathers and arithmetic, which every runtime has. There is
no ``GridSample`` in it: its rules at the border differ, and TensorRT miscompiled it in several
releases. Deformable convolution is the standard node ``DeformConv``, or decomposed on request.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .decompositions import decomposition_table
from .deform_conv2d_export import ONNX_OPSET, as_onnx_node
from .ms_deform_attn_fused_reference import locations_and_weights

PLUGIN = 'trt.plugins::MultiscaleDeformableAttnPlugin_TRT'
"""Domain and type of the node; TensorRT finds a plug-in by the type alone."""


def export_onnx(
    program: torch.export.ExportedProgram,
    plugin: bool = False,
    composite: bool = False,
    joint_levels: bool = False,
    **options: Any,
) -> Any:
    """Translate a program that contains our operators to ONNX.

    Args:
        program: What ``torch.export.export`` gave.
        plugin: Write the sampling of ``ms_deform_attn`` and ``ms_deform_attn_fused`` as one node
            for TensorRT's plug-in ``MultiscaleDeformableAttnPlugin_TRT``, rather than as standard
            operators; softmax and locations of the fused one are standard operators then.
        composite: Write ``deform_conv2d`` as gathers and arithmetic, for runtimes without
            ``DeformConv`` and for operator sets before 19.
        joint_levels: Sample all levels side by side also where their sizes are a list: a smaller
            graph that is written faster, free sizes stay free, more memory at a time.
        **options: Passed to ``torch.onnx.export``.

    Returns:
        The ``torch.onnx.ONNXProgram``, which can be saved.

    Raises:
        ImportError: if onnx or onnxscript is not installed.
        RuntimeError: if torch is too old: 2.5 is needed, for ``DeformConv`` and ``plugin`` 2.8.
        ValueError: if ``opset_version`` has no ``DeformConv``.
    """
    for name in ('onnx', 'onnxscript'):
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f'{name}: expected for the export to ONNX, but it is not installed; '
                "run `pip install 'isda_suite[onnx]'`"
            )
    convolution = torch.ops.isda_suite.deform_conv2d.default
    node = not composite and any(n.target is convolution for n in program.graph.nodes)
    needed = (2, 8) if plugin or node else (2, 5)
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < needed:
        oldest = '.'.join(map(str, needed))
        raise RuntimeError(f'torch: expected {oldest} or newer, got {torch.__version__}')
    table = decomposition_table()
    if joint_levels:
        table.update(_joint_table(table))
    if plugin:
        table.update(_plugin_table())
    if node:
        table[convolution] = as_onnx_node
        opset = options.get('opset_version')
        if opset is None:
            options['opset_version'] = ONNX_OPSET
        elif opset < ONNX_OPSET:
            raise ValueError(
                f'opset_version: expected at least {ONNX_OPSET}, the first with DeformConv, or '
                f'composite=True, got {opset}'
            )
    return torch.onnx.export(program.run_decompositions(table), dynamo=True, **options)


def _joint_table(table: dict[Any, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """Replace the entries for lists of sizes by those for tables."""

    def with_tables(
        sample: Callable[..., Any], value: Tensor, spatial_shapes: Sequence[int], *operands: Tensor
    ) -> Any:
        return sample(value, *_tables(value, spatial_shapes), *operands)

    operators = (torch.ops.isda_suite.ms_deform_attn, torch.ops.isda_suite.ms_deform_attn_fused)
    return {one.list: partial(with_tables, table[one.default]) for one in operators}


def _plugin_table() -> dict[Any, Callable[..., Any]]:
    forward = torch.ops.isda_suite.ms_deform_attn
    fused = torch.ops.isda_suite.ms_deform_attn_fused
    return {
        forward.default: _plugin_with_tables,
        forward.list: _plugin_with_list,
        fused.default: _fused_plugin_with_tables,
        fused.list: _fused_plugin_with_list,
    }


def _plugin_with_tables(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Call the plug-in, which takes 32-bit tables and one dtype for all other operands.

    A 16-bit ``value`` beside float32 locations is widened rather than the locations rounded.
    """
    b, _, m, c = value.shape
    q, dtype = sampling_locations.shape[1], sampling_locations.dtype
    tables = (table.to(torch.int32) for table in (spatial_shapes, level_start_index))
    output: Tensor = torch.onnx.ops.symbolic(
        PLUGIN,
        (value.to(dtype), *tables, sampling_locations, attention_weights.to(dtype)),
        dtype=dtype,
        shape=(b, q, m, c),
        version=1,
    )
    return output.reshape(b, q, m * c).to(value.dtype)


def _tables(value: Tensor, spatial_shapes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Make tables of a list of sizes."""
    # Not torch.tensor: sizes may be symbolic, and it leaves an operation in place in the graph.
    numbers = [torch.full((), n, dtype=torch.int64, device=value.device) for n in spatial_shapes]
    shapes = torch.stack(numbers).view(-1, 2)
    areas = shapes.prod(1)
    return shapes, areas.cumsum(0) - areas


def _plugin_with_list(value: Tensor, spatial_shapes: Sequence[int], *points: Tensor) -> Tensor:
    return _plugin_with_tables(value, *_tables(value, spatial_shapes), *points)


def _fused_plugin_with_tables(
    value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor, *operands: Tensor
) -> Tensor:
    points = locations_and_weights(value, spatial_shapes, *operands)
    return _plugin_with_tables(value, spatial_shapes, level_start_index, *points)


def _fused_plugin_with_list(
    value: Tensor, spatial_shapes: Sequence[int], *operands: Tensor
) -> Tensor:
    return _fused_plugin_with_tables(value, *_tables(value, spatial_shapes), *operands)
