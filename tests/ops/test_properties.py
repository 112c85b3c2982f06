"""What must hold for any operands of both operators; hypothesis draws sizes and seeds.

Every property is one of the mathematical definition, so no tolerance here knows the implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from isda_suite.ops import deform_conv2d, ms_deform_attn
from tests.ops import convolution_operands, operands

quick = settings(max_examples=15, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**16)


@st.composite
def attentions(draw, **fixed):
    """Operands of any size, the number of levels among it."""
    sizes = {
        'shapes': draw(
            st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3)
        ),
        'images': draw(st.integers(1, 3)),
        'queries': draw(st.integers(1, 5)),
        'heads': draw(st.integers(1, 3)),
        'channels': draw(st.integers(1, 18)),
        'points': draw(st.integers(1, 5)),
        'seed': draw(SEEDS),
    }
    return operands.make_operands(**{**sizes, **fixed})


@st.composite
def convolutions(draw, **fixed):
    """Operands of any size and geometry; channels are multiples of all groups."""
    groups, deform_groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    sizes = {
        'images': draw(st.integers(1, 3)),
        'channels': groups * deform_groups * draw(st.integers(1, 3)),
        'out_channels': groups * draw(st.integers(1, 5)),
        'size': (draw(st.integers(3, 8)), draw(st.integers(3, 8))),
        'kernel': (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        'stride': (draw(st.integers(1, 2)), draw(st.integers(1, 3))),
        'padding': (draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        'groups': groups,
        'deform_groups': deform_groups,
        'mask': draw(st.booleans()),
        'bias': draw(st.booleans()),
        'seed': draw(SEEDS),
    }
    return convolution_operands.make_operands(**{**sizes, **fixed})


def _close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@quick
@given(attentions(), st.sampled_from(['value', 'attention_weights']), st.floats(-3, 3))
def test_attention_is_linear_in_values_and_in_weights(first, name, factor):
    other = torch.randn_like(getattr(first, name))
    mixed = first._replace(**{name: getattr(first, name) + factor * other})
    expected = ms_deform_attn(*first) + factor * ms_deform_attn(*first._replace(**{name: other}))
    _close(ms_deform_attn(*mixed), expected)


@quick
@given(attentions())
def test_attention_over_a_constant_map_gives_the_sum_of_the_weights(o):
    """For points between the centres of the border's pixels; further out zeros come in."""
    margin = 0.5 / o.spatial_shapes.flip(1).view(1, 1, 1, -1, 1, 2)
    inside = o._replace(
        value=torch.full_like(o.value, 3.0),
        sampling_locations=margin + (1 - 2 * margin) * torch.rand_like(o.sampling_locations),
    )
    sums = 3.0 * o.attention_weights.sum((3, 4)).repeat_interleave(o.value.shape[3], 2)
    _close(ms_deform_attn(*inside), sums)


@quick
@given(attentions(shapes=((5, 6),)), st.integers(-4, 4), st.integers(-4, 4))
def test_attention_moves_with_the_map_by_whole_pixels(o, dx, dy):
    """The map lies in a larger empty one, somewhere else each time."""
    b, _, m, c = o.value.shape

    def placed(x, y):
        canvas = torch.zeros(b, 15, 16, m, c, dtype=o.value.dtype)
        canvas[:, y : y + 5, x : x + 6] = o.value.view(b, 5, 6, m, c)
        sizes = torch.tensor([6.0, 5.0]), torch.tensor([16.0, 15.0])
        points = (o.sampling_locations * sizes[0] + torch.tensor([x, y])) / sizes[1]
        return ms_deform_attn(canvas.flatten(1, 2), [(15, 16)], None, points, o.attention_weights)

    _close(placed(5 + dx, 5 + dy), placed(5, 5))
    _close(placed(5, 5), ms_deform_attn(*o))


@quick
@given(attentions(), st.randoms(use_true_random=False))
def test_order_of_levels_points_and_heads_does_not_matter(o, random):
    def order(n):
        return torch.tensor(random.sample(range(n), n))

    expected = ms_deform_attn(*o)
    levels, points, heads = (order(o.attention_weights.shape[i]) for i in (3, 4, 2))
    by_level = o._replace(
        spatial_shapes=o.spatial_shapes[levels],
        level_start_index=o.level_start_index[levels],
        sampling_locations=o.sampling_locations[:, :, :, levels][:, :, :, :, points],
        attention_weights=o.attention_weights[:, :, :, levels][..., points],
    )
    _close(ms_deform_attn(*by_level), expected)
    by_head = o._replace(
        value=o.value[:, :, heads],
        sampling_locations=o.sampling_locations[:, :, heads],
        attention_weights=o.attention_weights[:, :, heads],
    )
    c = o.value.shape[3]
    _close(
        ms_deform_attn(*by_head).unflatten(2, (-1, c)), expected.unflatten(2, (-1, c))[:, :, heads]
    )


@quick
@given(attentions(images=3))
def test_attention_of_a_batch_is_that_of_its_images(o):
    alone = [
        ms_deform_attn(*(t[i : i + 1] if j not in (1, 2) else t for j, t in enumerate(o)))
        for i in range(3)
    ]
    assert torch.equal(ms_deform_attn(*o), torch.cat(alone))


def _directional(call, leaves, seed):
    """Derivative of the sum along a random direction: by autograd, and by differences."""
    generator = torch.Generator().manual_seed(seed)
    ways = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in leaves]
    leaves = [t.detach().requires_grad_() for t in leaves]
    gradients = torch.autograd.grad(call(*leaves).sum(), leaves)
    exact = sum((g * w).sum() for g, w in zip(gradients, ways, strict=True))
    step = 1e-6
    with torch.no_grad():
        ahead = call(*(t + step * w for t, w in zip(leaves, ways, strict=True))).sum()
        behind = call(*(t - step * w for t, w in zip(leaves, ways, strict=True))).sum()
    return exact, (ahead - behind) / (2 * step)


@quick
@given(attentions(), SEEDS)
def test_backward_of_attention_is_the_difference_quotient(o, seed):
    def call(value, locations, weights):
        return ms_deform_attn(value, o.spatial_shapes, o.level_start_index, locations, weights)

    exact, measured = _directional(call, (o.value, *o[3:]), seed)
    torch.testing.assert_close(exact, measured, rtol=1e-5, atol=1e-5)


@quick
@given(convolutions(), SEEDS)
def test_backward_of_convolution_is_the_difference_quotient(o, seed):
    there = [t is not None for t in o[:5]]

    def call(*tensors):
        given_ = iter(tensors)
        return deform_conv2d(*(next(given_) if t else None for t in there), *o[5:])

    exact, measured = _directional(call, o.tensors, seed)
    torch.testing.assert_close(exact, measured, rtol=1e-5, atol=1e-5)


@quick
@given(convolutions(mask=True, bias=False), st.sampled_from(['input', 'mask', 'weight']), SEEDS)
def test_convolution_is_linear_in_input_mask_and_weight(first, name, seed):
    generator = torch.Generator().manual_seed(seed)
    here = getattr(first, name)
    other = torch.randn(here.shape, generator=generator, dtype=here.dtype)
    mixed = first._replace(**{name: here - 2 * other})
    expected = deform_conv2d(*first) - 2 * deform_conv2d(*first._replace(**{name: other}))
    _close(deform_conv2d(*mixed), expected)


@quick
@given(convolutions())
def test_zero_offsets_and_unit_mask_are_a_convolution(o):
    still = o._replace(
        offset=torch.zeros_like(o.offset),
        mask=None if o.mask is None else torch.ones_like(o.mask),
    )
    _close(deform_conv2d(*still), F.conv2d(o.input, o.weight, o.bias, *o[5:8], o.groups))


@quick
@given(convolutions(mask=False), st.integers(-3, 3), st.integers(-3, 3))
def test_whole_offsets_are_a_convolution_of_the_moved_input(o, dy, dx):
    offset = torch.zeros_like(o.offset)
    offset[:, 0::2], offset[:, 1::2] = dy, dx
    # Room for what moves in from outside, which is zero there.
    (sy, sx), (py, px) = o.stride, o.padding
    wide = F.pad(o.input, (px + 3, px + 3, py + 3, py + 3))
    moved = wide[:, :, 3 + dy :, 3 + dx :]
    plain = F.conv2d(moved, o.weight, o.bias, (sy, sx), 0, o.dilation, o.groups)
    ho, wo = o.offset.shape[2:]
    _close(deform_conv2d(*o._replace(offset=offset)), plain[:, :, :ho, :wo])


@quick
@given(convolutions())
def test_weight_groups_are_separate_calls(o):
    """For the channels that one weight group and one deform group share."""
    per_group, per_deform = o.input.shape[1] // o.groups, o.input.shape[1] // o.deform_groups
    k = o.weight.shape[2] * o.weight.shape[3]
    parts = []
    for r in range(o.groups):
        total = 0
        for c in range(r * per_group, (r + 1) * per_group):  # one channel a call
            g = c // per_deform
            weight = o.weight.chunk(o.groups)[r][:, c - r * per_group : c - r * per_group + 1]
            mask = None if o.mask is None else o.mask[:, g * k : (g + 1) * k]
            offset = o.offset[:, 2 * g * k : 2 * (g + 1) * k]
            total += deform_conv2d(o.input[:, c : c + 1], offset, mask, weight, None, *o[5:8])
        parts.append(total)
    bias = 0 if o.bias is None else o.bias.view(1, -1, 1, 1)
    _close(deform_conv2d(*o), torch.cat(parts, 1) + bias)


@quick
@given(convolutions(images=3))
def test_convolution_of_a_batch_is_that_of_its_images(o):
    alone = [
        deform_conv2d(*(None if t is None else t[i : i + 1] for t in o[:3]), *o[3:])
        for i in range(3)
    ]
    assert torch.equal(deform_conv2d(*o), torch.cat(alone))


@pytest.mark.parametrize('last', [False, True])
@quick
@given(o=convolutions(bias=False))
def test_the_memory_format_changes_no_value(last, o):
    """Kernels read channels last as it is, and repack everything else."""
    candidate = o.channels_last() if last else o._replace(input=o.input.flip(1).flip(1))
    _close(deform_conv2d(*candidate), deform_conv2d(*o))
