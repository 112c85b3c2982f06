"""What users of other deformable convolutions ask for most, one test a complaint.

Complaints that other modules cover: autocast, memory formats and mixed dtypes
(test_deform_conv2d_dtypes.py), one graph for any size (test_deform_conv2d_registration.py), ONNX
(test_deform_conv2d_export.py), numbers of threads (test_deform_conv2d_variants.py), small inputs
(test_deform_conv2d_edges.py), missing libraries (test_library.py).
"""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from isda_suite.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d
from tests.ops.convolution_operands import BACKENDS, make_operands, norm_error, run
from tests.ops.operands import gradients, one_rank

PACKS = [DeformConv2dPack, ModulatedDeformConv2dPack]


def _pack(kind=ModulatedDeformConv2dPack, **arguments):
    torch.manual_seed(0)
    pack = kind(8, 6, 3, **{'padding': 1, 'deform_groups': 2, **arguments})
    nn.init.normal_(pack.conv_offset.weight, std=0.2)
    return pack


def _image(images=2, size=(7, 9), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, 8, *size, generator=generator)


@pytest.mark.parametrize('images', [1, 3, 5, 7, 65])
def test_odd_batch_sizes_need_no_im2col_step(images):
    """Elsewhere the batch has to be a multiple of min(batch, im2col_step)."""
    pack, x = _pack(DeformConv2dPack, im2col_step=4), _image(images)
    together = pack(x)
    for i in range(images):
        torch.testing.assert_close(together[i : i + 1], pack(x[i : i + 1]))


@pytest.mark.parametrize('kind', PACKS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_and_bfloat16_are_implemented(kind, dtype):
    """Forward and backward, without the error "not implemented for 'Half'"."""
    pack, x = _pack(kind), _image()
    expected = pack(x)
    found = pack.to(dtype)(x.to(dtype))
    assert found.dtype == dtype and norm_error(found.detach(), expected.detach()) < 0.05
    found.float().square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in pack.parameters())


@pytest.mark.parametrize('autocast', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_no_mixture_of_dtypes_fails_under_autocast(dtype, autocast):
    """Elsewhere: "expected scalar type Half but found Float"."""
    operands = make_operands(dtype=torch.float32)
    expected = deform_conv2d(*operands)
    for name in ('offset', 'mask', 'weight', 'bias'):
        mixed = operands._replace(**{name: getattr(operands, name).to(dtype)}).requires_grad()
        with torch.autocast('cpu', dtype=autocast):
            found = deform_conv2d(*mixed)
        assert found.dtype == autocast and norm_error(found.detach(), expected) < 0.05, name
        found.float().sum().backward()
        assert getattr(mixed, name).grad.dtype == dtype


def test_a_wrong_operand_is_named_under_autocast_too():
    operands = make_operands(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for name in ('offset', 'mask', 'bias'):
            wrong = operands._replace(**{name: getattr(operands, name)[:1]})
            with pytest.raises(ValueError, match=f'^{name}: expected shape .*, got'):
                deform_conv2d(*wrong)


@pytest.mark.parametrize('kind', PACKS)
def test_a_pack_compiles_under_autocast_with_gradients(kind):
    pack, x = _pack(kind), _image()

    def call(pack):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            return pack(x).float()

    torch._dynamo.reset()
    compiled = torch.compile(pack, backend='aot_eager', fullgraph=True)
    expected = gradients(pack, lambda: call(pack))
    for a, b in zip(gradients(pack, lambda: call(compiled)), expected, strict=True):
        assert norm_error(a, b) < 0.02


@pytest.mark.parametrize('kind', PACKS)
@pytest.mark.parametrize('reentrant', [False, True])
def test_activation_checkpointing_gives_the_same_gradients(kind, reentrant):
    pack, x = _pack(kind), _image().requires_grad_()
    expected = gradients(pack, lambda: pack(x))
    found = gradients(pack, lambda: checkpoint(pack, x, use_reentrant=reentrant))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize('kind', PACKS)
def test_jit_trace_keeps_the_operator_and_its_results(kind, tmp_path):
    pack = _pack(kind)
    traced = torch.jit.trace(pack, _image())
    assert 'isda_suite::deform_conv2d' in str(traced.inlined_graph)
    torch.jit.save(traced, str(tmp_path / 'traced.pt'))
    other = _image(3, (8, 5), seed=1)
    assert torch.equal(torch.jit.load(str(tmp_path / 'traced.pt'))(other), pack(other))


@pytest.mark.parametrize('kind', PACKS)
def test_a_pack_compiles_without_graph_breaks(kind):
    """With gradients; Dynamo refuses operators bound with pybind11."""
    pack, x = _pack(kind), _image()
    torch._dynamo.reset()
    compiled = torch.compile(pack, backend='aot_eager', fullgraph=True)
    expected = gradients(pack, lambda: pack(x))
    found = gradients(pack, lambda: compiled(x))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_inference_mode_and_tensors_made_in_it():
    pack, x = _pack(), _image()
    with torch.inference_mode():
        assert torch.equal(pack(x.clone()), pack(x))


@pytest.mark.parametrize('kind', PACKS)
def test_copies_and_pickles_train_like_the_original(kind):
    pack, x = _pack(kind), _image()
    expected = gradients(pack, lambda: pack(x))
    for again in (copy.deepcopy(pack), pickle.loads(pickle.dumps(pack))):
        found = gradients(again, lambda again=again: again(x))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize('kind', PACKS)
def test_distributed_training_reaches_every_parameter(kind, tmp_path):
    pack, x = _pack(kind), _image()
    expected = gradients(pack, lambda: pack(x))
    with one_rank(tmp_path):
        wrapped = DistributedDataParallel(pack)
        found = gradients(pack, lambda: wrapped(x))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize('kind', PACKS)
def test_training_is_reproducible(deterministic, kind):
    """Deterministic algorithms raise no error on the CPU and give the same bits twice."""
    pack, x = _pack(kind), _image(3, (20, 20))
    first, second = (gradients(pack, lambda: pack(x)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize('kind', PACKS)
def test_second_derivatives_exist(kind):
    """A gradient penalty reaches every weight; elsewhere the backward has no formula."""
    pack, x = _pack(kind), _image().requires_grad_()
    (gradient,) = torch.autograd.grad(pack(x).square().sum(), x, create_graph=True)
    found = gradients(pack, lambda: gradient)
    assert all(g.isfinite().all() and g.any() for g in found)


def test_sizes_beyond_32_bits_are_counted_and_an_image_beyond_them_is_refused():
    """Elsewhere: "invalid argument" from a launch whose sizes have wrapped around."""
    wide = torch.empty(2, 64, 2**13, 2**14, device='meta')
    assert wide.numel() > 2**31
    offset = torch.empty(2, 18, 2**13, 2**14, device='meta')
    weight = torch.empty(3, 64, 3, 3, device='meta')
    assert deform_conv2d(wide, offset, None, weight, padding=1).shape == (2, 3, 2**13, 2**14)
    image = torch.zeros(1).expand(1, 1, 2**16, 2**15)  # one number, seen 2^31 times
    with pytest.raises(
        ValueError, match=r'^input: expected less than 2\^31 pixels, got 2147483648'
    ):
        deform_conv2d(image, torch.zeros(1, 2, 1, 1), None, torch.ones(1, 1, 1, 1), stride=2**16)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_every_element_of_every_result_is_written(deterministic, backend, dtype):
    """New memory is filled with NaN, so what no kernel writes shows."""
    assert torch.empty(4, dtype=dtype).isnan().all()
    mixed = torch.float32 if dtype == torch.bfloat16 else dtype
    for sizes in ({'channels': 70, 'out_channels': 9, 'deform_groups': 2}, {'groups': 2}):
        operands = make_operands(**sizes, size=(11, 11)).to(dtype, mixed)
        for candidate in (operands, operands.channels_last()):
            for result in run(backend, candidate):
                assert result.isfinite().all()
