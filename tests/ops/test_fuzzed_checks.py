"""Wrong operands of every kind in every place: the error names the operand that is wrong.

Ranks, sizes, dtypes and devices are drawn by hypothesis, one wrong operand at a time; which text
each fault has is tested in test_errors.py and test_deform_conv2d_errors.py.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isda_suite.ops import deform_conv2d as convolution
from isda_suite.ops import ms_deform_attn as attention
from isda_suite.ops.deform_conv2d import _forward_reference as convolution_reference
from isda_suite.ops.ms_deform_attn import OPERATOR as ATTENTION_OPERATOR
from tests.ops import convolution_operands, operands

many = settings(max_examples=40, deadline=None, derandomize=True)
ATTENTION = operands.make_operands(dtype=torch.float32)
CONVOLUTION = convolution_operands.make_operands(dtype=torch.float32, groups=2)
NAMES = {
    'attention': list(ATTENTION._fields),
    'convolution': ['input', 'offset', 'mask', 'weight', 'bias'],
}
# A size is compared with that of another operand; the error may name either side.
PARTNERS = {
    'value': {'value', 'sampling_locations', 'attention_weights', 'level_start_index'},
    'spatial_shapes': {'spatial_shapes', 'level_start_index', 'sampling_locations'},
    'sampling_locations': {'sampling_locations', 'attention_weights'},
    'input': {'input', 'offset', 'mask', 'weight', 'bias', 'groups'},
    'offset': {'offset'},
    'weight': {'weight', 'offset', 'mask', 'bias', 'groups', 'input'},
}


@st.composite
def faults(draw, tensor, integers):
    """One wrong variant of a tensor, and what kind it is."""
    kind = draw(st.sampled_from(['rank', 'size', 'dtype', 'device']))
    if kind == 'rank':
        return kind, draw(
            st.sampled_from([tensor.unsqueeze(0), tensor.flatten()[0], tensor[None, None]])
        )
    if kind == 'size':
        axis = draw(st.integers(0, tensor.dim() - 1))
        grown = torch.cat([tensor, tensor.narrow(axis, 0, 1)], axis)
        return kind, draw(st.sampled_from([grown, tensor.narrow(axis, 0, tensor.shape[axis] - 1)]))
    if kind == 'dtype':
        wrong = (
            [torch.float32, torch.bool] if integers else [torch.int64, torch.complex64, torch.bool]
        )
        return kind, tensor.to(draw(st.sampled_from(wrong)))
    return kind, tensor.to('meta')


CALLS = {
    'attention': (attention, ATTENTION_OPERATOR.forward_reference, ATTENTION),
    'convolution': (convolution, convolution_reference, CONVOLUTION),
}


@pytest.mark.parametrize('operator', CALLS)
@many
@given(data=st.data())
def test_an_error_names_the_wrong_operand(operator, data):
    compiled, reference, good = CALLS[operator]
    name = data.draw(st.sampled_from(NAMES[operator]))
    tensor = getattr(good, name)
    kind, wrong = data.draw(faults(tensor, not tensor.is_floating_point()))
    broken = good._replace(**{name: wrong})
    # Operands on two devices reach no compiled kernel of the CPU.
    for call in (reference,) if kind == 'device' else (reference, compiled):
        try:
            output = call(*broken)
        except (ValueError, TypeError) as error:
            # Devices are compared with the first operand's, whichever of the two is wrong.
            blamed = set(NAMES[operator]) if kind == 'device' else PARTNERS.get(name, {name})
            assert str(error).partition(':')[0] in blamed, f'{name}, {kind}: {error}'
            assert 'expected' in str(error) and 'got' in str(error)
        else:
            # Legal are only rows of value that no level covers, and another number of channels.
            assert (name, kind) == ('value', 'size'), f'{name}: {kind} passed'
            (b, rows, m, _), (gb, good_rows, gm, _) = wrong.shape, tensor.shape
            assert (b, m) == (gb, gm) and rows >= good_rows
            torch.testing.assert_close(output, reference(*broken), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('operator', CALLS)
def test_the_good_operands_pass(operator):
    compiled, reference, good = CALLS[operator]
    torch.testing.assert_close(compiled(*good), reference(*good), rtol=1e-4, atol=1e-4)
