"""Deformable attention against recorded double-precision results and its rules at borders."""

import numpy as np
import pytest
import torch

from tests.golden.files import golden_cases
from tests.golden.loader import check
from tests.ops.operands import BACKENDS, Operands, run

NAMES = ['output', 'grad_value', 'grad_sampling_locations', 'grad_attention_weights']


def _load(case, dtype):
    """Operands and upstream gradient; of 16-bit runs only some inputs have 16 bits."""
    arrays = case.inputs()
    low = case.config['low_precision']
    half = dtype in (torch.float16, torch.bfloat16)

    def tensor(name):
        found = torch.from_numpy(np.asarray(arrays[name]))
        if not found.is_floating_point():
            return found
        return found.to(torch.float32 if half and name not in low else dtype)

    return Operands(*map(tensor, Operands._fields)), tensor('grad_output')


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', ['float64', 'float32', 'float16', 'bfloat16'])
@pytest.mark.parametrize('golden, case', golden_cases('ops_msda*.json'))
def test_recorded_results(golden, case, dtype, backend):
    operands, grad_output = _load(case, getattr(torch, dtype))
    results = dict(zip(NAMES, run(backend, operands, grad_output), strict=True))
    for name, output in case.outputs.items():
        check(results[name.removeprefix(f'{case.name}.')], output, dtype)
