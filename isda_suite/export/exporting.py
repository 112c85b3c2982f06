"""Write a model as ONNX or as a program of ``torch.export``, and check what was written."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.packages import is_installed
from isda_suite.layers.export_form import ExportForm, find_export_form
from isda_suite.ops import export_onnx

from .description import as_properties, describe
from .parity import Array, Difference, compare, require_equal

FORMATS = {'onnx': '.onnx', 'torch': '.pt2'}
#: Where PyTorch's exporter begins; older ones would be converted from it, which often fails.
_LEAST_OPSET = 18
LARGEST_SIDE = 16384


@dataclass
class Exported:
    """What was written.

    Attributes:
        path: The file.
        description: What stands in its header.
        differences: For every size checked, the differences from PyTorch.
    """

    path: Path
    description: dict[str, Any]
    differences: dict[str, list[Difference]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, without the folder."""
        return {
            'file': self.path.name,
            'differences': {
                size: [asdict(one) for one in found] for size, found in self.differences.items()
            },
        }


def export_model(
    model: nn.Module,
    path: str | Path,
    format: str = 'onnx',
    input_size: tuple[int, int] = (800, 1344),
    dynamic: bool = False,
    check: bool = True,
    batch_size: int = 1,
    **onnx_options: Any,
) -> Exported:
    """Export a model of the suite with its post-processing, normalisation included.

    Args:
        model: From :func:`isda_suite.apis.model.load_model`.
        path: Name of the file, ``.onnx`` or ``.pt2``; beside the latter a ``.json`` is written.
        format: ``'onnx'`` or ``'torch'``.
        input_size: Height and width of the network's input.
        dynamic: Leave height and width open, multiples of the form's ``stride``.
        check: Compare with PyTorch before the file gets its name: in onnxruntime or as a loaded
            program, at the given size and, with ``dynamic``, at another one.
        batch_size: Images of a batch.
        **onnx_options: Of ``torch.onnx.export``, such as ``opset_version`` or ``optimize=False``,
            which does not fold constants and is faster.

    Returns:
        What was written.

    Raises:
        ConfigError: for an unknown format, a size that the model does not take, an operator set
            that cannot be had, or results that differ from PyTorch.
        ModelConfigError: for a model without an exported form.
    """
    if format not in FORMATS:
        raise ConfigError(f'format: expected one of {", ".join(FORMATS)}, got {format!r}')
    target = Path(path).expanduser()
    if target.suffix != FORMATS[format]:
        raise ConfigError(
            f'{target.name}: the name of an export to {format!r} ends with {FORMATS[format]}'
        )
    if format == 'onnx':
        _require_opset(onnx_options.get('opset_version'))
        require_onnx(check)
    form = find_export_form(model, batch_size).eval()
    require_size(form, input_size, dynamic)
    with torch.no_grad():
        program, shapes = trace(form, input_size, dynamic)
        inputs = form.example_inputs(input_size)
        description = describe(form, inputs, shapes, model)
        done = Exported(target, description)
        sizes = [input_size]
        if dynamic:
            sizes.append((input_size[0] + form.stride, input_size[1] + 2 * form.stride))
        if format == 'torch':
            _write_program(program, done, sizes if check else [], form)
        else:
            _write_onnx(program, done, sizes if check else [], form, onnx_options)
    return done


def require_onnx(run: bool) -> None:
    """Refuse to begin without the packages that the end needs.

    Args:
        run: Whether the file is to be run too.

    Raises:
        ConfigError: naming the first that is missing.
    """
    for name in ('onnx', 'onnxscript', *(['onnxruntime'] if run else [])):
        if not is_installed(name):
            raise ConfigError(
                f"{name}: needed for ONNX, not installed; run `pip install 'isda_suite[onnx]'`"
            )


def require_size(form: ExportForm, size_hw: tuple[int, int], dynamic: bool) -> None:
    """Refuse a size that the form, or a free size, cannot have.

    Raises:
        ConfigError: with the nearest sizes that can be.
    """
    divisor = form.image_input.divisor
    step = max(form.stride if dynamic else 1, divisor)
    near = tuple(max(step, round(side / step) * step) for side in size_hw)
    if any(side % step for side in size_hw):
        raise ConfigError(
            f'input_size: {type(form.model).__name__} takes sides that are multiples of {step} '
            f'here, got {size_hw[0]} x {size_hw[1]}; the nearest are {near[0]} x {near[1]}'
        )
    if dynamic and min(size_hw) < form.least_side:
        raise ConfigError(
            f'input_size: at least {form.least_side} where height and width stay free, got '
            f'{size_hw[0]} x {size_hw[1]}'
        )


def trace(
    form: ExportForm, size_hw: tuple[int, int], dynamic: bool
) -> tuple[ExportedProgram, dict[str, list[int | str]]]:
    """Write the form down as a program.

    Args:
        form: The form, in evaluation mode.
        size_hw: Height and width.
        dynamic: Leave both open.

    Returns:
        The program, and the shapes of its inputs with names for free sides.

    Raises:
        ConfigError: if sides that should stay free did not.
    """
    inputs = form.example_inputs(size_hw)
    shapes: dict[str, list[int | str]] = {name: list(v.shape) for name, v in inputs.items()}
    free: dict[str, dict[int, Any]] | None = None
    if dynamic:
        axes = (inputs['images'].dim() - 2, inputs['images'].dim() - 1)
        sides = {axis: _free(name, form) for axis, name in zip(axes, ('h', 'w'), strict=True)}
        free = {name: sides if name == 'images' else {} for name in inputs}
        for axis, name in zip(axes, ('height', 'width'), strict=True):
            shapes['images'][axis] = name
    program = torch.export.export(form, (), inputs, dynamic_shapes=free, strict=False)
    return program, shapes


def _free(name: str, form: ExportForm) -> Any:
    stride = form.stride
    cells = Dim(name, min=-(-form.least_side // stride), max=LARGEST_SIDE // stride)
    return cells if stride == 1 else cells * stride


def _write_program(
    program: ExportedProgram, done: Exported, sizes: list[tuple[int, int]], form: ExportForm
) -> None:
    text = json.dumps(done.description, indent=2)
    with write_atomically(done.path) as file:
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={'isda_suite.json': text})
        file.write(buffer.getbuffer())
        buffer.seek(0)
        if sizes:
            loaded = torch.export.load(buffer).module()

            def run(inputs: Mapping[str, Tensor]) -> list[Array]:
                return [value.numpy() for value in loaded(**inputs)]

            _check(done, form, sizes, run)
    with write_atomically(done.path.with_suffix('.json'), text=True) as file:
        file.write(text + '\n')


def _write_onnx(
    program: ExportedProgram,
    done: Exported,
    sizes: list[tuple[int, int]],
    form: ExportForm,
    options: dict[str, Any],
) -> None:
    written = export_onnx(
        program, joint_levels=True, verbose=False, output_names=list(form.outputs), **options
    )
    proto = written.model_proto
    opset = next(one.version for one in proto.opset_import if one.domain in ('', 'ai.onnx'))
    asked = options.get('opset_version')
    if asked is not None and opset != asked:
        raise ConfigError(
            f'opset_version: the graph could not be written in operator set {asked}, only in '
            f'{opset}: ask for that one'
        )
    done.description['opset'] = opset
    shapes = {one.name: one for one in proto.graph.input}
    _require_free(done, shapes)
    for name, value in as_properties(done.description).items():
        proto.metadata_props.add(key=name, value=value)
    content = proto.SerializeToString()
    with write_atomically(done.path) as file:
        file.write(content)
        if sizes:
            from .runtime import open_session

            session = open_session(content)

            def run(inputs: Mapping[str, Tensor]) -> list[Array]:
                found: list[Array] = session.run(None, {k: v.numpy() for k, v in inputs.items()})
                return found

            _check(done, form, sizes, run)


def _require_opset(version: int | None) -> None:
    if version is not None and version < _LEAST_OPSET:
        raise ConfigError(
            f'opset_version must be at least {_LEAST_OPSET}, with deformable convolution 19, got '
            f'{version}'
        )


def _require_free(done: Exported, inputs: Mapping[str, Any]) -> None:
    """Refuse a file whose free sides have become numbers on the way."""
    for name, entry in done.description['inputs'].items():
        dims = inputs[name].type.tensor_type.shape.dim
        for wanted, dim in zip(entry['shape'], dims, strict=True):
            text = dim.dim_param or str(dim.dim_value)
            if isinstance(wanted, str) and text.isdigit():
                raise ConfigError(
                    f'{name}: {wanted} was to stay free, but the graph holds for {text} only; '
                    'export one file for each size'
                )


def _check(done: Exported, form: ExportForm, sizes: list[tuple[int, int]], run: Any) -> None:
    for seed, size_hw in enumerate(sizes, 1):
        inputs = form.example_inputs(size_hw, seed)
        expected = [np.asarray(value) for value in form(**inputs)]
        found = run(inputs)
        names = form.outputs
        differences = compare(
            dict(zip(names, expected, strict=True)), dict(zip(names, found, strict=True))
        )
        done.differences[f'{size_hw[0]}x{size_hw[1]}'] = differences
        require_equal(differences, f'{done.path.name} at {size_hw[0]} x {size_hw[1]}')
