"""The operators against recorded double-precision results and their rules at borders."""

import numpy as np
import pytest
import torch

from tests.golden.files import golden_cases
from tests.golden.loader import check
from tests.ops import convolution_operands as convolution
from tests.ops.operands import BACKENDS, Operands, run

NAMES = ['output', 'grad_value', 'grad_sampling_locations', 'grad_attention_weights']


def _reader(case, dtype):
    """Read inputs by name; of 16-bit runs only some have 16 bits."""
    arrays = case.inputs()
    low = case.config['low_precision']
    half = dtype in (torch.float16, torch.bfloat16)

    def tensor(name):
        if arrays[name] is None:
            return None
        found = torch.from_numpy(np.asarray(arrays[name]))
        if not found.is_floating_point():
            return found
        return found.to(torch.float32 if half and name not in low else dtype)

    return tensor


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', ['float64', 'float32', 'float16', 'bfloat16'])
@pytest.mark.parametrize('golden, case', golden_cases('ops_msda*.json'))
def test_recorded_results(golden, case, dtype, backend):
    tensor = _reader(case, getattr(torch, dtype))
    operands = Operands(*map(tensor, Operands._fields))
    results = dict(zip(NAMES, run(backend, operands, tensor('grad_output')), strict=True))
    for name, output in case.outputs.items():
        check(results[name.removeprefix(f'{case.name}.')], output, dtype)


@pytest.mark.parametrize('backend', convolution.BACKENDS)
@pytest.mark.parametrize('dtype', ['float64', 'float32', 'float16', 'bfloat16'])
@pytest.mark.parametrize('golden, case', golden_cases('ops_dcn*.json'))
def test_recorded_results_of_deformable_convolution(golden, case, dtype, backend):
    tensor = _reader(case, getattr(torch, dtype))
    names = convolution.Operands._fields[:5]
    sizes = convolution.Operands._fields[5:]
    operands = convolution.Operands(*map(tensor, names), *(case.config[name] for name in sizes))
    found = convolution.run(backend, operands, tensor('grad_output'))
    there = [name for name, t in zip(names, operands, strict=False) if t is not None]
    results = dict(zip(['output', *(f'grad_{name}' for name in there)], found, strict=True))
    for name, output in case.outputs.items():
        check(results[name.removeprefix(f'{case.name}.')], output, dtype)
