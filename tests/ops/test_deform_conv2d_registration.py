"""The operator as PyTorch sees it: fake kernels, autograd, vmap, compilation."""

import pytest
import torch
import torch._inductor.config
from torch._dynamo.testing import CompileCounterWithBackend

from isda_suite.ops import deform_conv2d
from isda_suite.ops.deform_conv2d import SCHEMAS
from tests.ops.convolution_operands import grad_like_output, make_operands, needs_library

SMALL = {'size': (4, 5), 'channels': 4, 'dtype': torch.float32}
SAMPLES = {
    'contiguous': make_operands(**SMALL, groups=2, deform_groups=2),
    'v1': make_operands(**SMALL, mask=False, bias=False),
    'channels last': make_operands(**SMALL).channels_last(),
    'strided': make_operands(**SMALL).map(lambda t: torch.stack([t, t], -1)[..., 0]),
    'empty': make_operands(**SMALL, images=0),
    'mixed': make_operands(**SMALL).to(torch.bfloat16, torch.float32),
}


@pytest.mark.parametrize('name', SAMPLES)
def test_opcheck(name):
    operands = SAMPLES[name]
    arguments = [list(a) if isinstance(a, tuple) else a for a in operands[5:]]
    forward = torch.ops.isda_suite.deform_conv2d.default
    torch.library.opcheck(forward, (*operands.requires_grad()[:5], *arguments))
    backward = torch.ops.isda_suite.deform_conv2d_backward.default
    grad = grad_like_output(operands)
    wanted = [True, False, True, True, True]
    torch.library.opcheck(backward, (grad, *operands[:4], *arguments, wanted))


@needs_library
@pytest.mark.parametrize('name', SCHEMAS)
def test_schemas_of_library_and_fallback_are_the_same(name):
    operator = getattr(torch.ops.isda_suite, name).default
    assert str(operator._schema) == str(torch._C.parse_schema(f'isda_suite::{name}{SCHEMAS[name]}'))


def test_meta_tensors_give_shape_and_format():
    operands = make_operands().channels_last().map(lambda t: t.to('meta'))
    out = deform_conv2d(*operands)
    assert out.device.type == 'meta' and out.shape == (2, 4, 7, 8)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_one_number_stands_for_a_pair():
    operands = make_operands(stride=(2, 2), padding=(1, 1))
    by_number = deform_conv2d(*operands[:5], stride=2, padding=1)
    assert torch.equal(by_number, deform_conv2d(*operands))


def test_forward_mode_says_that_it_is_not_there():
    operands = make_operands()
    with pytest.raises((NotImplementedError, RuntimeError), match='forward'):
        torch.func.jvp(
            lambda image: deform_conv2d(image, *operands[1:]), (operands.input,), (operands.input,)
        )


def test_modes_without_gradients():
    operands = make_operands().requires_grad()
    with torch.no_grad():
        assert not deform_conv2d(*operands).requires_grad
    with torch.inference_mode():
        assert deform_conv2d(*operands).is_inference()


@pytest.mark.parametrize('mapped', ['all', 'input', 'offset'])
def test_vmap_folds_the_mapped_axis_into_the_batch(mapped):
    items = [make_operands(seed=seed) for seed in range(3)]
    names = ('input', 'offset', 'mask') if mapped == 'all' else (mapped,)
    base = items[0]
    dims = {name: 1 if name in names else None for name in ('input', 'offset', 'mask')}
    stacked = [
        torch.stack([getattr(item, name) for item in items], 1)
        if name in names
        else getattr(base, name)
        for name in dims
    ]

    def call(*points):
        return deform_conv2d(*points, *base[3:])

    found = torch.func.vmap(call, in_dims=tuple(dims.values()))(*stacked)
    expected = [
        deform_conv2d(*base._replace(**{name: getattr(item, name) for name in names}))
        for item in items
    ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_gradients_under_vmap_are_those_of_every_item():
    items = [make_operands(seed=seed, mask=False) for seed in range(3)]
    base = items[0]
    backward = torch.ops.isda_suite.deform_conv2d_backward
    grads = [grad_like_output(item, seed) for seed, item in enumerate(items)]

    def call(grad, image):
        rest = [list(a) if isinstance(a, tuple) else a for a in base[5:]]
        wanted = [True, True, False, True, True]
        return backward(grad, image, base.offset, None, base.weight, *rest, wanted)

    found = torch.func.vmap(call)(torch.stack(grads), torch.stack([i.input for i in items]))
    expected = [call(g, i.input) for g, i in zip(grads, items, strict=True)]
    for part, parts in zip(found, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(part, torch.stack(parts))


@pytest.mark.parametrize('name', ['weight', 'bias'])
def test_vmap_over_a_parameter_is_refused_by_its_name(name):
    operands = make_operands()

    def call(parameter):
        return deform_conv2d(*operands._replace(**{name: parameter}))

    with pytest.raises(ValueError, match=f'^{name}: expected the same for every item under vmap'):
        torch.func.vmap(call)(torch.stack([getattr(operands, name)] * 2))


def test_compiles_as_one_graph_forward_and_backward_for_any_size():
    """One compilation serves every image size; Inductor checks the strides promised."""

    def step(*operands):
        out = deform_conv2d(operands[0] * 2, *operands[1:5], padding=1)
        return out.square().sum()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend('inductor')
    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    with torch._inductor.config.patch({'compile_threads': 1}):
        for size in ((11, 13), (10, 14), (12, 15)):  # sizes that no other axis has
            operands = make_operands(size=size, dtype=torch.float32).requires_grad()
            expected = torch.autograd.grad(step(*operands[:5]), operands.tensors)
            actual = torch.autograd.grad(compiled(*operands[:5]), operands.tensors)
            for a, b in zip(actual, expected, strict=True):
                torch.testing.assert_close(a, b)
    assert counter.frame_count == 1


def test_compiles_for_channels_last():
    def step(*operands):
        return deform_conv2d(operands[0] + 1, *operands[1:], padding=1).sin()

    operands = make_operands(dtype=torch.float32).channels_last().requires_grad()
    compiled = torch.compile(step, backend='aot_eager', fullgraph=True)
    found, expected = compiled(*operands[:5]), step(*operands[:5])
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.sum(), operands.tensors),
        torch.autograd.grad(expected.sum(), operands.tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
