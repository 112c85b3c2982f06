"""What users of other implementations ask for most, one test a complaint.

These are about attention; test_deform_conv2d_complaints.py is about convolution. Complaints that
other modules cover: autocast, strides and more than 2^31 elements (test_dtypes.py), levels of any
size (test_edges.py), numbers of threads (test_variants.py), missing libraries (test_library.py),
ONNX (test_onnx.py), devices, streams and graphs (test_cuda.py).
"""

import copy
import pickle

import pytest
import torch
import torch._dynamo.config
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from isda_suite.ops import MultiScaleDeformableAttention, ms_deform_attn
from tests.ops.operands import BACKENDS, gradients, make_operands, norm_error, one_rank, run

SHAPES = ((5, 7), (3, 4))
ROWS = 47


def _module(**arguments):
    torch.manual_seed(0)
    arguments = {'num_heads': 4, 'num_levels': 2, 'batch_first': True, **arguments}
    module = MultiScaleDeformableAttention(32, **arguments).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


def _inputs(images=2, queries=6, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = sum(h * w for h, w in shapes)
    return {
        'query': torch.randn(images, queries, 32, generator=generator),
        'value': torch.randn(images, rows, 32, generator=generator),
        'reference_points': torch.rand(images, queries, len(shapes), 2, generator=generator),
        'spatial_shapes': torch.tensor(shapes),
    }


@pytest.mark.parametrize('images', [1, 3, 5, 7, 65])
def test_odd_batch_sizes_need_no_im2col_step(images):
    """Elsewhere the batch has to be a multiple of min(batch, im2col_step)."""
    module, inputs = _module(im2col_step=4), _inputs(images)
    together = module(**inputs)
    shapes = inputs.pop('spatial_shapes')
    for i in range(images):
        alone = module(**{k: v[i : i + 1] for k, v in inputs.items()}, spatial_shapes=shapes)
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_and_bfloat16_are_implemented(dtype):
    """Forward and backward, without the error "not implemented for 'Half'"."""
    module, inputs = _module(), _inputs()
    expected = module(**inputs)
    narrow = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    found = module.to(dtype)(**narrow)
    assert found.dtype == dtype and norm_error(found, expected) < 0.03
    found.float().square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in module.parameters())


def test_operands_need_not_be_contiguous():
    operands = make_operands(dtype=torch.float32)
    value, _, _, locations, weights = operands
    spread = operands._replace(
        value=value.transpose(0, 1).contiguous().transpose(0, 1),
        sampling_locations=locations.flip(1).flip(1).transpose(0, 1).contiguous().transpose(0, 1),
        attention_weights=weights.repeat_interleave(2, 1)[:, ::2],
    )
    assert not any(t.is_contiguous() for t in (spread[0], spread[3], spread[4]))
    assert torch.equal(ms_deform_attn(*spread), ms_deform_attn(*operands))


@pytest.mark.parametrize('tables', ['tensor', 'list'])
def test_compiles_once_without_graph_breaks_for_any_queries_and_image_size(tables):
    """Only Q and S change; a second compilation would raise."""
    module = _module()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True, dynamic=True)
    sizes = [SHAPES, SHAPES, ((8, 10), (5, 6)), ((7, 9), (4, 5))]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for queries, shapes in zip((6, 9, 9, 11), sizes, strict=True):
            inputs = _inputs(3, queries, shapes)
            if tables == 'list':
                inputs['spatial_shapes'] = list(shapes)
            expected = gradients(module, lambda inputs=inputs: module(**inputs))
            found = gradients(module, lambda inputs=inputs: compiled(**inputs))
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('reentrant', [False, True])
def test_activation_checkpointing_gives_the_samegradients(reentrant):
    module, inputs = _module(), _inputs()
    query = inputs.pop('query').requires_grad_()
    expected = gradients(module, lambda: module(query, **inputs))
    found = gradients(
        module,
        lambda: checkpoint(lambda q: module(q, **inputs), query, use_reentrant=reentrant),
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_jit_trace_keeps_the_operator_and_its_results(tmp_path):
    operands = make_operands(dtype=torch.float32)
    traced = torch.jit.trace(ms_deform_attn, tuple(operands))
    assert 'isda_suite::ms_deform_attn' in str(traced.graph)
    torch.jit.save(traced, str(tmp_path / 'traced.pt'))
    other = make_operands(queries=9, seed=1, dtype=torch.float32)
    loaded = torch.jit.load(str(tmp_path / 'traced.pt'))
    assert torch.equal(loaded(*other), ms_deform_attn(*other))


def test_inference_mode_and_tensors_made_in_it():
    module, inputs = _module(), _inputs()
    expected = module(**inputs)
    with torch.inference_mode():
        made_inside = {k: v.clone() for k, v in inputs.items()}
        assert torch.equal(module(**made_inside), expected)


def test_copies_and_pickles_train_like_the_original():
    module, inputs = _module(), _inputs()
    expected = gradients(module, lambda: module(**inputs))
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        found = gradients(again, lambda again=again: again(**inputs))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_distributed_training_reaches_every_parameter(tmp_path):
    module, inputs = _module(), _inputs()
    expected = gradients(module, lambda: module(**inputs))
    with one_rank(tmp_path):
        wrapped = DistributedDataParallel(module)
        found = gradients(module, lambda: wrapped(**inputs))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_training_is_reproducible(deterministic):
    """Deterministic algorithms raise no error on the CPU and give the same bits twice."""
    module, inputs = _module(), _inputs(3, 40)
    first, second = (gradients(module, lambda: module(**inputs)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('channels', [5, 32, 48])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_every_element_of_every_result_is_written(deterministic, backend, channels, dtype):
    """New memory is filled with NaN, so what no kernel writes shows."""
    assert torch.empty(4, dtype=dtype).isnan().all()
    shapes = (*SHAPES, (0, 3))
    operands = make_operands(shapes, channels=channels)
    mixed = torch.float32 if dtype == torch.bfloat16 else dtype
    for result in run(backend, operands.to(dtype, mixed)):
        assert result.isfinite().all()


def test_second_derivatives_exist():
    """A gradient penalty reaches every weight; elsewhere backward is once_differentiable."""
    module, inputs = _module(), _inputs()
    query = inputs.pop('query').requires_grad_()
    output = module(query, **inputs).square().sum()
    (gradient,) = torch.autograd.grad(output, query, create_graph=True)
    found = gradients(module, lambda: gradient)
    assert all(g.isfinite().all() and g.any() for g in found)


@pytest.mark.parametrize('autocast', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_no_mixture_of_dtypes_fails_under_autocast(dtype, autocast):
    """Elsewhere: "expected scalar type Half but found Float"."""
    module, inputs = _module(), _inputs()
    for name in ('query', 'value', 'reference_points'):
        mixed = {**inputs, name: inputs[name].to(dtype)}
        with torch.autocast('cpu', dtype=autocast):
            found = module(**mixed)
        assert norm_error(found.detach(), module(**inputs).detach()) < 0.05, name
        found.float().sum().backward()


def test_a_wrong_operand_is_named_under_autocast_too():
    operands = make_operands(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for name in ('sampling_locations', 'attention_weights'):
            wrong = operands._replace(**{name: getattr(operands, name)[:1]})
            with pytest.raises(ValueError, match=f'^{name}: expected shape .*, got'):
                ms_deform_attn(*wrong)


def test_it_compiles_under_autocast_with_gradients():
    module, inputs = _module(), _inputs()

    def call(module):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return module(**inputs).float()

    torch._dynamo.reset()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    expected = gradients(module, lambda: call(module))
    for a, b in zip(gradients(module, lambda: call(compiled)), expected, strict=True):
        assert norm_error(a, b) < 0.02
