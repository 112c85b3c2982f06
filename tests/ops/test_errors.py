"""Wrong operands: the message starts with the operand's name and says expected and got."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn
from isda_suite.ops.ms_deform_attn import OPERATOR
from tests.ops.operands import grad_like_output, make_operands

# B=2, S=48, M=3, C=5, Q=6, L=3, P=4
GOOD = make_operands(dtype=torch.float32)
WRONG = {
    'value: expected shape (B, S, M, C), got (2, 48, 15)': {'value': GOOD.value.flatten(2)},
    'value: expected shape (B, S, M, C), got ()': {'value': torch.tensor(1.0)},
    'value: expected dtype float32, float64, float16 or bfloat16, got int64': {
        'value': GOOD.value.long()
    },
    'value: expected at most 1024 channels of a head, got 1025': {
        'value': torch.zeros(2, 48, 3, 1025)
    },
    'spatial_shapes: expected shape (L, 2), got (3, 3)': {
        'spatial_shapes': torch.ones(3, 3, dtype=torch.int64)
    },
    'spatial_shapes: expected dtype int64 or int32, got float32': {
        'spatial_shapes': GOOD.spatial_shapes.float()
    },
    'spatial_shapes: expected sizes >= 0, got (-5, 7) for level 0': {
        'spatial_shapes': torch.tensor([[-5, 7], [3, 4], [1, 1]])
    },
    'level_start_index: expected shape (3,), got (2,)': {
        'level_start_index': GOOD.level_start_index[:2]
    },
    'level_start_index: expected dtype int64 or int32, got bool': {
        'level_start_index': GOOD.level_start_index.bool()
    },
    'level_start_index: expected level 2 inside the 48 rows of value, got rows 48 to 49': {
        'level_start_index': torch.tensor([0, 35, 48])
    },
    'level_start_index: expected level 1 inside the 48 rows of value, got rows -1 to 11': {
        'level_start_index': torch.tensor([0, -1, 47])
    },
    'sampling_locations: expected shape (B, Q, M, L, P, 2), got (2, 6, 3, 3, 4)': {
        'sampling_locations': GOOD.sampling_locations[..., 0]
    },
    'sampling_locations: expected shape (2, 6, 3, 3, 4, 2), got (2, 6, 3, 2, 4, 2)': {
        'sampling_locations': GOOD.sampling_locations[:, :, :, :2]
    },
    'sampling_locations: expected shape (2, 6, 3, 3, 4, 2), got (1, 6, 3, 3, 4, 2)': {
        'sampling_locations': GOOD.sampling_locations[:1]
    },
    'sampling_locations: expected dtype float32, got float64': {
        'sampling_locations': GOOD.sampling_locations.double()
    },
    'sampling_locations: expected dtype bfloat16 or float32, got float16': {
        'value': GOOD.value.bfloat16(),
        'sampling_locations': GOOD.sampling_locations.half(),
    },
    'sampling_locations: expected at most 1024 points, got 1025': {
        'sampling_locations': torch.zeros(2, 6, 3, 3, 1025, 2)
    },
    'sampling_locations: expected device cpu as value, got meta': {
        'sampling_locations': GOOD.sampling_locations.to('meta')
    },
    'attention_weights: expected shape (2, 6, 3, 3, 4), got (2, 6, 3, 12)': {
        'attention_weights': GOOD.attention_weights.flatten(3)
    },
    'attention_weights: expected dtype float32, got bfloat16': {
        'attention_weights': GOOD.attention_weights.bfloat16()
    },
}


def _calls(operands):
    yield 'reference', lambda: OPERATOR.forward_reference(*operands)
    if operands.sampling_locations.device.type == 'meta':
        return  # mixed devices reach no compiled kernel: the dispatcher picks the fake one
    yield 'operator', lambda: ms_deform_attn(*operands)


@pytest.mark.parametrize('message', WRONG, ids=range(len(WRONG)))
def test_message_names_the_operand(message):
    kind = TypeError if 'dtype' in message else ValueError
    for name, call in _calls(GOOD._replace(**WRONG[message])):
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == message, name


@pytest.mark.parametrize(
    'flat, message',
    [
        ([5, 7, 3], 'spatial_shapes: expected an even number of integers (h, w pairs), got 3'),
        ([5, 7, 3, 4], 'spatial_shapes: expected 48 rows in all, as value has, got 47 rows in all'),
        ([5, 7, 3, -4], 'spatial_shapes: expected sizes >= 0, got (3, -4) for level 1'),
    ],
)
def test_message_for_a_list_of_sizes(flat, message):
    locations, weights = GOOD.sampling_locations[:, :, :, :2], GOOD.attention_weights[:, :, :, :2]
    for call in (torch.ops.isda_suite.ms_deform_attn.list, OPERATOR.forward_reference):
        with pytest.raises(ValueError) as caught:
            call(GOOD.value, flat, locations, weights)
        assert str(caught.value) == message


def test_a_list_of_sizes_takes_no_start_index():
    with pytest.raises(TypeError, match=r'^level_start_index: expected None beside a sequence'):
        ms_deform_attn(GOOD.value, [(5, 7)], GOOD.level_start_index, *GOOD[3:])


@pytest.mark.parametrize(
    'grad, message',
    [
        (torch.zeros(2, 6, 14), 'grad_output: expected shape (2, 6, 15), got (2, 6, 14)'),
        (torch.zeros(2, 6, 15).double(), 'grad_output: expected dtype float32, got float64'),
    ],
)
def test_message_for_the_upstream_gradient(grad, message):
    for call in (torch.ops.isda_suite.ms_deform_attn_backward, OPERATOR.backward_reference):
        with pytest.raises((ValueError, TypeError)) as caught:
            call(grad, *GOOD, [True, True, True])
        assert str(caught.value) == message


def test_int32_tables_are_accepted():
    tables = GOOD._replace(
        spatial_shapes=GOOD.spatial_shapes.int(), level_start_index=GOOD.level_start_index.int()
    )
    assert torch.equal(ms_deform_attn(*tables), ms_deform_attn(*GOOD))


def test_good_operands_pass_every_check():
    OPERATOR.forward_reference(*GOOD)
    OPERATOR.backward_reference(grad_like_output(GOOD), *GOOD, [True, True, True])
