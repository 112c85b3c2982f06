"""Wrong operands of the fused operator: the message names the operand, expected and got."""

import pytest
import torch

from isda_suite.ops import ms_deform_attn_fused
from isda_suite.ops.ms_deform_attn_fused import OPERATOR
from tests.ops.fused_operands import grad_like_output, make_operands

# B=2, S=48, M=3, C=5, Q=6, L=3, P=4
GOOD = make_operands(dtype=torch.float32)
WRONG = {
    'value: expected shape (B, S, M, C), got (2, 48, 15)': {'value': GOOD.value.flatten(2)},
    'value: expected at most 1024 channels of a head, got 1025': {
        'value': torch.zeros(2, 48, 3, 1025)
    },
    'spatial_shapes: expected shape (L, 2), got (3, 3)': {
        'spatial_shapes': torch.ones(3, 3, dtype=torch.int64)
    },
    'level_start_index: expected level 2 inside the 48 rows of value, got rows 48 to 49': {
        'level_start_index': torch.tensor([0, 35, 48])
    },
    'sampling_offsets: expected shape (B, Q, M, L, P, 2), got (2, 6, 3, 3, 4)': {
        'sampling_offsets': GOOD.sampling_offsets[..., 0]
    },
    'sampling_offsets: expected shape (2, 6, 3, 3, 4, 2), got (2, 6, 3, 2, 4, 2)': {
        'sampling_offsets': GOOD.sampling_offsets[:, :, :, :2]
    },
    'sampling_offsets: expected dtype float32, got bfloat16': {
        'sampling_offsets': GOOD.sampling_offsets.bfloat16()
    },
    'sampling_offsets: expected at most 1024 points, got 1025': {
        'sampling_offsets': torch.zeros(2, 6, 3, 3, 1025, 2)
    },
    'attention_logits: expected shape (2, 6, 3, 3, 4), got (2, 6, 3, 12)': {
        'attention_logits': GOOD.attention_logits.flatten(3)
    },
    'attention_logits: expected dtype bfloat16 or float32, got float16': {
        'value': GOOD.value.bfloat16(),
        'attention_logits': GOOD.attention_logits.half(),
    },
    'attention_logits: expected device cpu as value, got meta': {
        'attention_logits': GOOD.attention_logits.to('meta')
    },
    'reference_points: expected shape (2, 6, 3 or 1, 2 or 4), got (2, 6, 3)': {
        'reference_points': GOOD.reference_points[..., 0]
    },
    'reference_points: expected shape (2, 6, 3 or 1, 2 or 4), got (2, 6, 2, 2)': {
        'reference_points': GOOD.reference_points[:, :, :2]
    },
    'reference_points: expected shape (2, 6, 3 or 1, 2 or 4), got (2, 6, 3, 3)': {
        'reference_points': torch.rand(2, 6, 3, 3)
    },
    'reference_points: expected shape (2, 6, 3 or 1, 2 or 4), got (2, 5, 3, 2)': {
        'reference_points': GOOD.reference_points[:, :5]
    },
    'reference_points: expected shape (2, 6, 3 or 1, 2 or 4), got (1, 6, 3, 2)': {
        'reference_points': GOOD.reference_points[:1]
    },
    'reference_points: expected dtype float32, got float64': {
        'reference_points': GOOD.reference_points.double()
    },
    'reference_points: expected device cpu as value, got meta': {
        'reference_points': GOOD.reference_points.to('meta')
    },
}


@pytest.mark.parametrize('message', WRONG, ids=range(len(WRONG)))
def test_message_names_the_operand(message):
    kind = TypeError if 'dtype' in message else ValueError
    operands = GOOD._replace(**WRONG[message])
    calls = {'reference': OPERATOR.forward_reference, 'operator': ms_deform_attn_fused}
    if 'meta' in message:
        del calls['operator']  # mixed devices reach no compiled kernel: the dispatcher takes fakes
    for name, call in calls.items():
        with pytest.raises(kind) as caught:
            call(*operands)
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
    points = (GOOD.reference_points[:, :, :2], *(t[:, :, :, :2] for t in GOOD[4:]))
    for call in (torch.ops.isda_suite.ms_deform_attn_fused.list, OPERATOR.forward_reference):
        with pytest.raises(ValueError) as caught:
            call(GOOD.value, flat, *points)
        assert str(caught.value) == message


def test_a_list_of_sizes_takes_no_start_index():
    with pytest.raises(TypeError, match=r'^level_start_index: expected None beside a sequence'):
        ms_deform_attn_fused(GOOD.value, [(5, 7)], GOOD.level_start_index, *GOOD[3:])


@pytest.mark.parametrize(
    'grad, message',
    [
        (torch.zeros(2, 6, 14), 'grad_output: expected shape (2, 6, 15), got (2, 6, 14)'),
        (torch.zeros(2, 6, 15).double(), 'grad_output: expected dtype float32, got float64'),
    ],
)
def test_message_for_the_upstream_gradient(grad, message):
    operator = torch.ops.isda_suite.ms_deform_attn_fused_backward
    for call in (operator, OPERATOR.backward_reference):
        with pytest.raises((ValueError, TypeError)) as caught:
            call(grad, *GOOD, [True] * 4)
        assert str(caught.value) == message


def test_int32_tables_are_accepted():
    tables = GOOD._replace(
        spatial_shapes=GOOD.spatial_shapes.int(), level_start_index=GOOD.level_start_index.int()
    )
    assert torch.equal(ms_deform_attn_fused(*tables), ms_deform_attn_fused(*GOOD))


def test_good_operands_pass_every_check():
    OPERATOR.forward_reference(*GOOD)
    OPERATOR.backward_reference(grad_like_output(GOOD), *GOOD, [True] * 4)
