"""Deformable convolution, plain and modulated, against a loop and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

import isda_suite  # noqa: F401  offers mmcv._ext

B, C, O, H, W = 2, 4, 4, 5, 6  # noqa: E741
GEOMETRIES = [
    # stride, padding, dilation, groups, deformable groups
    (1, 1, 1, 1, 1),
    ((2, 1), (1, 2), (1, 2), 2, 2),
]


def make_inputs(geometry):
    stride, padding, dilation, groups, deform_groups = geometry
    generator = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.randn(*shape, dtype=torch.double, generator=generator)

    x, weight = rand(B, C, H, W), rand(O, C // groups, 3, 3)
    size = F.conv2d(x, weight, None, stride, padding, dilation, groups).shape[2:]
    offset = rand(B, 2 * deform_groups * 9, *size)
    mask = torch.sigmoid(rand(B, deform_groups * 9, *size))
    return x, offset, mask, weight, rand(O)


def at(plane, y, x):
    """Bilinear value with zeros around the map."""
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                value += float(plane[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def by_loops(x, offset, mask, weight, bias, geometry):
    stride, padding, dilation = (v if isinstance(v, tuple) else (v, v) for v in geometry[:3])
    groups, deform_groups = geometry[3:]
    output = torch.zeros(B, O, *offset.shape[2:], dtype=torch.double)
    for b, o, i, j in torch.cartesian_prod(*[torch.arange(n) for n in output.shape]).tolist():
        total = float(bias[o]) if bias is not None else 0.0
        for c in range(C // groups):
            channel = o // (O // groups) * (C // groups) + c
            group = channel // (C // deform_groups)
            for k in range(9):
                shift = offset[b, (group * 9 + k) * 2 :, i, j]
                y = i * stride[0] - padding[0] + k // 3 * dilation[0] + float(shift[0])
                z = j * stride[1] - padding[1] + k % 3 * dilation[1] + float(shift[1])
                factor = float(mask[b, group * 9 + k, i, j]) if mask is not None else 1.0
                value = at(x[b, channel], y, z)
                total += float(weight[o, c, k // 3, k % 3]) * factor * value
        output[b, o, i, j] = total
    return output


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_plain_convolution_equals_the_loop(geometry):
    from mmcv.ops import deform_conv2d

    x, offset, _, weight, _ = make_inputs(geometry)
    expected = by_loops(x, offset, None, weight, None, geometry)
    torch.testing.assert_close(deform_conv2d(x, offset, weight, *geometry), expected)


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('with_bias', [True, False])
def test_modulated_convolution_equals_the_loop(geometry, with_bias):
    from mmcv.ops import modulated_deform_conv2d

    x, offset, mask, weight, bias = make_inputs(geometry)
    bias = bias if with_bias else None
    expected = by_loops(x, offset, mask, weight, bias, geometry)
    found = modulated_deform_conv2d(x, offset, mask, weight, bias, *geometry)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_plain_gradients(geometry):
    from mmcv.ops import deform_conv2d

    x, offset, _, weight, _ = make_inputs(geometry)
    inputs = [t.requires_grad_() for t in (x, offset, weight)]
    check = torch.autograd.gradcheck
    assert check(lambda *t: deform_conv2d(*t, *geometry), inputs, fast_mode=True)


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_modulated_gradients(geometry):
    from mmcv.ops import modulated_deform_conv2d

    inputs = [t.requires_grad_() for t in make_inputs(geometry)]
    check = torch.autograd.gradcheck
    assert check(lambda *t: modulated_deform_conv2d(*t, *geometry), inputs, fast_mode=True)


def test_weight_gradient_alone_equals_the_one_computed_with_the_others():
    """mmcv asks for it in a second call."""
    from mmcv.ops import deform_conv2d

    x, offset, _, weight, _ = make_inputs(GEOMETRIES[0])
    leaf = weight.clone().requires_grad_()
    deform_conv2d(x, offset, leaf, 1, 1).square().sum().backward()
    x.requires_grad_()
    other = weight.clone().requires_grad_()
    output = deform_conv2d(x, offset, other, 1, 1).square().sum()
    for factor in (1, 3):
        factor = torch.tensor(factor, dtype=torch.double)
        (gradient,) = torch.autograd.grad(output, other, factor, retain_graph=True)
        torch.testing.assert_close(gradient, factor * leaf.grad)
        torch.autograd.grad(output, x, factor, retain_graph=True)
    output.backward()
    torch.testing.assert_close(other.grad, leaf.grad)


PLAIN_OPTIONS = dict(
    kW=3, kH=3, dW=1, dH=1, padW=1, padH=1, dilationW=1, dilationH=1, group=1,
    deformable_group=1, im2col_step=2,
)  # fmt: skip


def test_scale_multiplies_the_weight_gradient_and_adds_it():
    import mmcv._ext as ext

    x, offset, _, weight, _ = make_inputs(GEOMETRIES[0])
    grad_output = torch.ones(B, O, H, W, dtype=torch.double)
    results = []
    for scale in (1, 0.5):
        grad_weight = torch.ones_like(weight)
        buffers = torch.empty(0), torch.empty(0)
        arguments = (x, offset, grad_output, grad_weight, *buffers)
        ext.deform_conv_backward_parameters(*arguments, **PLAIN_OPTIONS, scale=scale)
        results.append(grad_weight - 1)
    torch.testing.assert_close(results[1], results[0] / 2)
    assert results[0].abs().sum() > 0


def test_nothing_is_kept_in_the_scratch_tensors_between_calls():
    import mmcv._ext as ext

    x, offset, _, weight, _ = make_inputs(GEOMETRIES[0])
    first = torch.ones(B, O, H, W, dtype=torch.double)
    second = 3 * first
    buffer = torch.empty(0)
    grads = torch.zeros_like(x), torch.zeros_like(offset)
    ext.deform_conv_backward_input(x, offset, first, *grads, weight, buffer, **PLAIN_OPTIONS)
    found, expected = torch.zeros_like(weight), torch.zeros_like(weight)
    for result, scratch in ((found, buffer), (expected, torch.empty(0))):
        arguments = (x, offset, second, result, scratch, scratch)
        ext.deform_conv_backward_parameters(*arguments, **PLAIN_OPTIONS, scale=1)
    torch.testing.assert_close(found, expected)


def test_zero_offsets_give_an_ordinary_convolution_also_in_bfloat16():
    from mmcv.ops import deform_conv2d

    x, offset, _, weight, _ = make_inputs(GEOMETRIES[0])
    x, offset, weight = x.bfloat16(), torch.zeros_like(offset).bfloat16(), weight.bfloat16()
    x.requires_grad_()
    output = deform_conv2d(x, offset, weight, 1, 1)
    expected = F.conv2d(x.float(), weight.float(), None, 1, 1)
    torch.testing.assert_close(output, expected.bfloat16())
    output.sum().backward()
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize('dtype, bound', [(torch.float16, 2e-3), (torch.bfloat16, 8e-3)])
def test_sixteen_bits_are_added_up_in_float32(dtype, bound):
    """Against double precision on the rounded operands: one rounding at the end."""
    from mmcv.ops import modulated_deform_conv2d

    narrow = [t.to(dtype).requires_grad_() for t in make_inputs(GEOMETRIES[1])]
    wide = [t.detach().double().requires_grad_() for t in narrow]
    results = []
    for operands in (narrow, wide):
        output = modulated_deform_conv2d(*operands, *GEOMETRIES[1])
        results.append([output, *torch.autograd.grad(output, operands, torch.ones_like(output))])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() < bound * expected.norm()


def test_our_operator_runs_underneath():
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d
    from torch.utils._python_dispatch import TorchDispatchMode

    called = set()

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.add(str(function))
            return function(*args, **(kwargs or {}))

    x, offset, mask, weight, bias = (t.requires_grad_() for t in make_inputs(GEOMETRIES[0]))
    with Record():
        deform_conv2d(x, offset, weight, 1, 1).sum().backward()
        modulated_deform_conv2d(x, offset, mask, weight, bias, 1, 1).sum().backward()
    assert {name for name in called if 'deform' in name} == {
        'isda_suite.deform_conv2d.default',
        'isda_suite.deform_conv2d_backward.default',
    }


@pytest.mark.parametrize('name', ['DCN', 'DCNv2'])
def test_registered_layers_of_mmcv_start_as_convolutions(name):
    import mmcv.ops  # noqa: F401
    from mmcv.cnn import build_conv_layer

    torch.manual_seed(0)
    cfg = dict(type=name, deform_groups=1)
    layer = build_conv_layer(cfg, C, O, kernel_size=3, padding=1, bias=False).double()
    x = torch.randn(2, C, H, W, dtype=torch.double)
    factor = 0.5 if name == 'DCNv2' else 1.0  # the modulation starts at sigmoid(0)
    expected = factor * F.conv2d(x, layer.weight, None, 1, 1)
    torch.testing.assert_close(layer(x), expected)
