"""torch.func on deform_conv2d: derivatives inside of transforms, alone and under vmap."""

import pytest
import torch
from torch.func import functional_call, grad, jacrev, vjp

from isda_suite.ops import DeformConv2dPack, deform_conv2d
from tests.ops.convolution_operands import grad_like_output, make_operands

pytestmark = pytest.mark.skipif(
    not hasattr(torch.library, 'register_vmap'), reason='torch before 2.5 has no rules for vmap'
)
EXAMPLES = 3
CASES = {'v1': {'mask': False, 'bias': False}, 'v2': {'groups': 2, 'deform_groups': 2}}


def _call(operands):
    """The operator as a function of the tensors that are there."""
    there = [t is not None for t in operands[:5]]

    def call(*tensors):
        given = iter(tensors)
        return deform_conv2d(*(next(given) if t else None for t in there), *operands[5:])

    return call


@pytest.mark.parametrize('case', CASES)
def test_derivatives_are_those_of_autograd(case):
    operands = make_operands(**CASES[case]).requires_grad()
    call, upstream = _call(operands), grad_like_output(operands)
    expected = torch.autograd.grad(call(*operands.tensors), operands.tensors, upstream)
    output, pull_back = vjp(call, *(t.detach() for t in operands.tensors))
    assert torch.equal(output, call(*operands.tensors))
    for actual, wanted in zip(pull_back(upstream), expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize('case', CASES)
def test_gradients_of_every_example_are_those_of_a_loop(case):
    """Images, offsets and masks are mapped; weight and bias are shared and get one each."""
    items = [make_operands(**CASES[case], seed=seed) for seed in range(EXAMPLES)]
    base = items[0]
    call, upstream = _call(base), grad_like_output(base)
    points = 2 if base.mask is None else 3
    mapped = [torch.stack([item.tensors[i] for item in items]) for i in range(points)]
    shared = base.tensors[points:]
    every = tuple(range(len(base.tensors)))
    differentiate = grad(lambda *tensors: (call(*tensors) * upstream).sum(), every)
    dims = (0,) * points + (None,) * len(shared)
    found = torch.vmap(differentiate, in_dims=dims)(*mapped, *shared)
    expected = [differentiate(*(t[i] for t in mapped), *shared) for i in range(EXAMPLES)]
    for actual, parts in zip(found, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(actual, torch.stack(parts))


def test_gradient_through_a_mapped_call():
    """The other order: vmap inside, the derivative outside; the shared weight sums its own."""
    items = [make_operands(mask=False, seed=seed) for seed in range(EXAMPLES)]
    images = torch.stack([item.input for item in items])
    offsets = torch.stack([item.offset for item in items])
    base = items[0]

    def call(image, offset, weight):
        return deform_conv2d(image, offset, None, weight, None, *base[5:])

    def total(weight):
        return torch.vmap(call, in_dims=(0, 0, None))(images, offsets, weight).square().sum()

    def looped(weight):
        pairs = zip(images, offsets, strict=True)
        return sum(call(image, offset, weight).square().sum() for image, offset in pairs)

    torch.testing.assert_close(grad(total)(base.weight), grad(looped)(base.weight))


@pytest.mark.parametrize('case', CASES)
def test_second_derivatives_by_nested_transforms(case):
    operands = make_operands(1, 2, 2, (3, 3), **CASES[case])

    def loss(offset):
        return deform_conv2d(operands.input, offset, *operands[2:]).pow(3).sum()

    nested = jacrev(grad(loss))(operands.offset)
    plain = torch.autograd.functional.hessian(loss, operands.offset)
    assert plain.abs().max() > 0
    torch.testing.assert_close(nested, plain)


def test_gradients_of_every_image_of_a_module():
    """What differential privacy and influence functions ask for."""
    torch.manual_seed(0)
    pack = DeformConv2dPack(4, 6, 3, padding=1)
    torch.nn.init.normal_(pack.conv_offset.weight, std=0.3)
    parameters = dict(pack.named_parameters())
    images = torch.randn(EXAMPLES, 1, 4, 5, 6)

    def loss(parameters, image):
        return functional_call(pack, parameters, image).square().sum()

    found = torch.vmap(grad(loss), in_dims=(None, 0))(parameters, images)
    for name in parameters:
        expected = torch.stack([grad(loss)(parameters, image)[name] for image in images])
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)


def test_autocast_inside_of_transforms_gives_gradients_in_the_operands_dtypes():
    operands = make_operands(dtype=torch.float32)
    call = _call(operands)

    def loss(*tensors):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return call(*tensors).float().square().sum()

    every = tuple(range(5))
    found = grad(loss, every)(*operands.tensors)
    leaves = operands.requires_grad().tensors
    expected = torch.autograd.grad(loss(*leaves), leaves)
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.dtype == torch.float32
        assert torch.equal(actual, wanted)
