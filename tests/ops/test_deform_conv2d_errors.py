"""Wrong operands: the message starts with the operand's name and says expected and got."""

import pytest
import torch

from isda_suite.ops import deform_conv2d
from isda_suite.ops.deform_conv2d import _backward_reference, _forward_reference
from tests.ops.convolution_operands import make_operands, run_backward

# B=2, C=6, O=4, H=7, W=8, 3x3
GOOD = make_operands(dtype=torch.float32)
WRONG = {
    'input: expected dtype float32, float64, float16 or bfloat16, got int64': {
        'input': GOOD.input.long()
    },
    'input: expected shape (B, C, H, W), got (6, 7, 8)': {'input': GOOD.input[0]},
    'input: expected a size that gives at least 1x1 outputs, got 0x6 outputs': {
        'input': GOOD.input[:, :, :2],
        'padding': (0, 0),
    },
    'input: expected a size that gives at least 1x1 outputs, got -2x2 outputs': {
        'dilation': (5, 3),
        'padding': (0, 0),
        'stride': (3, 1),
        'input': GOOD.input[:, :, :3],
    },
    'offset: expected shape (2, 18, 7, 8), got (2, 9, 7, 8)': {'offset': GOOD.offset[:, :9]},
    'offset: expected shape (2, 18, 5, 6), got (2, 18, 7, 8)': {'padding': (0, 0)},
    'offset: expected dtype float32, got float64': {'offset': GOOD.offset.double()},
    'offset: expected device cpu as input, got meta': {'offset': GOOD.offset.to('meta')},
    'mask: expected shape (2, 9, 7, 8), got (1, 9, 7, 8)': {'mask': GOOD.mask[:1]},
    'mask: expected dtype float32, got bfloat16': {'mask': GOOD.mask.bfloat16()},
    'weight: expected shape (O, C/groups, kh, kw), got (4, 54)': {'weight': GOOD.weight.flatten(1)},
    'weight: expected shape (4, 6, 3, 3), got (4, 5, 3, 3)': {'weight': GOOD.weight[:, :5]},
    'weight: expected shape (4, 3, 3, 3), got (4, 6, 3, 3)': {'groups': 2},
    'weight: expected a kernel of at least 1x1, got 0x3': {'weight': GOOD.weight[:, :, :0]},
    'weight: expected dtype float32, got float16': {'weight': GOOD.weight.half()},
    'bias: expected shape (4,), got (3,)': {'bias': GOOD.bias[:3]},
    'bias: expected dtype float32, got float64': {'bias': GOOD.bias.double()},
    'stride: expected at least 1, got (0, 1)': {'stride': (0, 1)},
    'padding: expected at least 0, got (1, -1)': {'padding': (1, -1)},
    'dilation: expected at least 1, got (1, 0)': {'dilation': (1, 0)},
    'groups: expected at least 1, got 0': {'groups': 0},
    'groups: expected a divisor of the 6 input channels, got 4': {'groups': 4},
    'groups: expected a divisor of the 4 output channels, got 3': {'groups': 3},
    'deform_groups: expected at least 1, got -1': {'deform_groups': -1},
    'deform_groups: expected a divisor of the 6 input channels, got 5': {'deform_groups': 5},
}


@pytest.mark.parametrize('message', WRONG, ids=range(len(WRONG)))
def test_message_names_the_operand(message):
    operands = GOOD._replace(**WRONG[message])
    kind = TypeError if 'dtype' in message else ValueError
    calls = {'reference': _forward_reference, 'operator': deform_conv2d}
    if operands.offset.device.type == 'meta':
        del calls['operator']  # mixed devices reach no compiled kernel
    for name, call in calls.items():
        with pytest.raises(kind) as caught:
            call(*operands)
        assert str(caught.value) == message, name


@pytest.mark.parametrize(
    'grad, message',
    [
        (torch.zeros(2, 4, 7, 7), 'grad_output: expected shape (2, 4, 7, 8), got (2, 4, 7, 7)'),
        (torch.zeros(2, 4, 7, 8).double(), 'grad_output: expected dtype float32, got float64'),
    ],
)
@pytest.mark.parametrize('backend', ['compiled', 'reference'])
def test_message_for_the_upstream_gradient(backend, grad, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        run_backward(backend, GOOD, grad)
    assert str(caught.value) == message


@pytest.mark.parametrize('name', ['stride', 'padding', 'dilation'])
def test_three_numbers_are_no_pair(name):
    with pytest.raises(ValueError, match=f'{name}: expected two integers'):
        _forward_reference(*GOOD._replace(**{name: (1, 1, 1)}))


def test_good_operands_pass_every_check():
    _forward_reference(*GOOD)
    grad = torch.zeros(2, 4, 7, 8)
    _backward_reference(grad, *GOOD[:4], *GOOD[5:], [True] * 5)
