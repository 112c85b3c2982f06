"""What ``patch_mmcv`` replaces, where, for how long, and what stays true meanwhile."""

import copy
import pickle
import sys
import threading
from types import ModuleType

import mmcv.ops
import pytest
import torch
from mmengine.registry import MODELS

from isda_suite import ops
from isda_suite.ops import patch_mmcv
from isda_suite.ops.mmcv_patch import mmcv_is_patched

NAMES = [
    'MultiScaleDeformableAttention',
    'DeformConv2d',
    'DeformConv2dPack',
    'ModulatedDeformConv2d',
    'ModulatedDeformConv2dPack',
]
FUNCTIONS = {
    'deform_conv': ['deform_conv2d', 'DeformConv2dFunction'],
    'modulated_deform_conv': ['modulated_deform_conv2d', 'ModulatedDeformConv2dFunction'],
    'multi_scale_deform_attn': [
        'MultiScaleDeformableAttnFunction',
        'multi_scale_deformable_attn_pytorch',
    ],
}
ORIGINALS = {name: getattr(mmcv.ops, name) for name in NAMES}  # a dict, so it is not swapped


def _snapshot():
    """What every module and registry of the libraries holds under every name."""
    found = {}
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__name__.startswith(('mm', 'isda_suite')):
            found[module.__name__] = dict(vars(module))
    for registry in [MODELS, *MODELS.children.values()]:
        found[registry.scope, registry.name] = dict(registry.module_dict)
    return found


def _same(before, after):
    return before.keys() <= after.keys() and all(
        before[place].keys() <= after[place].keys()
        and all(value is after[place][name] for name, value in before[place].items())
        for place in before
    )


@pytest.fixture(autouse=True)
def nothing_left_behind():
    assert not mmcv_is_patched()
    yield
    assert not mmcv_is_patched()


@pytest.mark.parametrize('name', NAMES)
def test_a_class_is_replaced_in_mmcv_in_registries_and_where_it_was_imported(name):
    user = ModuleType('a_user_of_mmcv')
    user.Renamed = ORIGINALS[name]
    sys.modules[user.__name__] = user
    registered = [key for key, kind in MODELS.module_dict.items() if kind is ORIGINALS[name]]
    try:
        with patch_mmcv():
            kind = getattr(mmcv.ops, name)
            assert issubclass(kind, getattr(ops, name)) and user.Renamed is kind
            assert all(MODELS.module_dict[key] is kind for key in registered)
        assert user.Renamed is getattr(mmcv.ops, name) is ORIGINALS[name]
    finally:
        del sys.modules[user.__name__]


def test_the_registered_names_of_configurations_are_ours():
    with patch_mmcv():
        for name, ours in (
            ('DCN', ops.DeformConv2dPack),
            ('DCNv2', ops.ModulatedDeformConv2dPack),
            ('MultiScaleDeformableAttention', ops.MultiScaleDeformableAttention),
        ):
            assert issubclass(MODELS.get(name), ours)


def test_everything_comes_back_exactly():
    import mmseg.models  # noqa: F401

    patch_mmcv().restore()  # what is imported on the way stays
    before = _snapshot()
    with patch_mmcv():
        assert not _same(before, _snapshot())
    assert _same(before, _snapshot())


def test_a_module_imported_meanwhile_gets_mmcvs_classes_back():
    with patch_mmcv():
        late = ModuleType('imported_meanwhile')
        exec('from mmcv.ops import DeformConv2d, deform_conv2d', vars(late))
        sys.modules[late.__name__] = late
    try:
        assert late.DeformConv2d is ORIGINALS['DeformConv2d']
        assert late.deform_conv2d is mmcv.ops.deform_conv2d
    finally:
        del sys.modules[late.__name__]


def test_patches_nest_and_repeat():
    outer, again = patch_mmcv(), patch_mmcv()
    with patch_mmcv():
        pass
    with again:  # already in force: the block ends this one only
        pass
    assert mmcv_is_patched()
    again.restore()
    assert mmcv_is_patched() and mmcv.ops.DeformConv2d is not ORIGINALS['DeformConv2d']
    outer.restore()
    outer.restore()
    assert mmcv.ops.DeformConv2d is ORIGINALS['DeformConv2d']


def test_an_error_inside_of_the_block_ends_the_patch():
    with pytest.raises(KeyError), patch_mmcv():
        raise KeyError('of the user')


def test_threads_end_with_mmcvs_classes():
    def work():
        for _ in range(3):
            with patch_mmcv():
                assert mmcv.ops.DeformConv2d is not ORIGINALS['DeformConv2d']

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mmcv.ops.DeformConv2d is ORIGINALS['DeformConv2d']


def _build(name, kind):
    if name == 'MultiScaleDeformableAttention':
        return kind(16, num_heads=2, num_levels=1)
    return kind(4, 4, 3, padding=1)


@pytest.mark.parametrize('name', NAMES)
def test_type_checks_give_the_same_answers_before_during_and_after(name):
    """A model may be built, initialised and given to an optimizer on both sides of a patch."""
    before = _build(name, ORIGINALS[name])
    with patch_mmcv():
        meanwhile = _build(name, getattr(mmcv.ops, name))
        for other in NAMES:
            expected = issubclass(ORIGINALS[name], ORIGINALS[other])
            for module in (before, meanwhile):
                assert isinstance(module, getattr(mmcv.ops, other)) == expected
            assert isinstance(meanwhile, getattr(ops, other)) == expected
            assert not isinstance(before, getattr(ops, other))
    for other in NAMES:
        assert isinstance(meanwhile, ORIGINALS[other]) == isinstance(before, ORIGINALS[other])


def test_a_subclass_of_a_replacement_is_an_ordinary_class():
    with patch_mmcv():

        class Mine(mmcv.ops.DeformConv2d):
            pass

        assert isinstance(Mine(4, 4, 3), mmcv.ops.DeformConv2d)
        assert not isinstance(mmcv.ops.DeformConv2d(4, 4, 3), Mine)
        assert not isinstance(ORIGINALS['DeformConv2d'](4, 4, 3), Mine)


@pytest.mark.parametrize('name', NAMES)
def test_modules_can_be_copied_and_pickled_on_both_sides(name):
    before = _build(name, ORIGINALS[name])
    with patch_mmcv():
        meanwhile = _build(name, getattr(mmcv.ops, name))
        for module in (before, meanwhile):
            for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
                assert type(again) is type(module)
        text = pickle.dumps(meanwhile), pickle.dumps(before)
    assert type(pickle.loads(text[0])) is type(meanwhile)
    again = pickle.loads(text[1])
    assert type(again) is ORIGINALS[name]
    for key, value in before.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_functions_give_mmcvs_results_and_gradients(dtype):
    """By every name they have in mmcv; also with mmcv's positional arguments."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        found = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        return found.requires_grad_()

    x, weight, bias = rand(2, 4, 6, 7), rand(6, 2, 3, 3), rand(6)
    offset, mask = rand(2, 36, 6, 7), rand(2, 18, 6, 7)
    value, weights = rand(2, 26, 2, 4), rand(2, 5, 2, 2, 3)
    points = torch.rand(2, 5, 2, 2, 3, 2, generator=generator, dtype=dtype).requires_grad_()
    shapes, starts = torch.tensor([[4, 5], [2, 3]]), torch.tensor([0, 20])
    geometry = (1, 1, 1, 2, 2)
    calls = {
        'deform_conv2d': (x, offset, weight, *geometry),
        'DeformConv2dFunction': (x, offset, weight, *geometry, False, 32),
        'modulated_deform_conv2d': (x, offset, mask, weight, bias, *geometry),
        'ModulatedDeformConv2dFunction': (x, offset, mask, weight, None, *geometry),
        'MultiScaleDeformableAttnFunction': (value, shapes, starts, points, weights, 64),
        'multi_scale_deformable_attn_pytorch': (value, shapes, points, weights),
    }
    for home, names in FUNCTIONS.items():
        module = sys.modules[f'mmcv.ops.{home}']
        for name in names:
            # A compiled mmcv has no kernel of this one for the CPU.
            compiled_for_gpus = name == 'MultiScaleDeformableAttnFunction'
            other = 'multi_scale_deformable_attn_pytorch' if compiled_for_gpus else name
            expected = _run(getattr(module, other), calls[other])
            with patch_mmcv():
                assert getattr(module, name).__module__ == 'isda_suite.ops.mmcv_patch'
                found = _run(getattr(module, name), calls[name])
            for actual, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(actual, wanted, rtol=2e-4, atol=2e-4)


def _run(function, arguments):
    """Output and gradients of a function or an autograd function."""
    output = getattr(function, 'apply', function)(*arguments)
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    return output, *torch.autograd.grad(output.square().sum(), leaves)


@pytest.mark.parametrize('value', [torch.float16, torch.bfloat16, torch.float32])
def test_the_attention_functions_take_every_mixture_as_mmcvs_do(value):
    operands = torch.randn(1, 12, 2, 4).to(value), torch.tensor([[3, 4]])
    rest = torch.rand(1, 5, 2, 1, 3, 2), torch.rand(1, 5, 2, 1, 3)
    with patch_mmcv():
        function = sys.modules['mmcv.ops.multi_scale_deform_attn'].MultiScaleDeformableAttnFunction
        for dtype in (torch.float16, torch.float32, torch.float64):
            points = (t.to(dtype) for t in rest)
            out = function.apply(*operands, torch.tensor([0]), *points, 64)
            assert out.dtype == value


def test_a_bias_of_version_one_is_refused():
    with patch_mmcv(), pytest.raises(ValueError, match=r'^bias: expected False'):
        mmcv.ops.deform_conv2d(*(torch.zeros(1, 1, 1, 1),) * 3, 1, 0, 1, 1, 1, True)


def test_the_old_name_of_identity_still_works():
    with patch_mmcv():
        module = mmcv.ops.MultiScaleDeformableAttention(16, 2, 1, batch_first=True).eval()
    query = torch.randn(1, 12, 16)
    given = {'reference_points': torch.rand(1, 12, 1, 2), 'spatial_shapes': torch.tensor([[3, 4]])}
    zero = torch.zeros_like(query)
    assert torch.equal(module(query, residual=zero, **given), module(query, identity=zero, **given))


@pytest.mark.parametrize('name', ['MultiScaleDeformableAttention', 'ModulatedDeformConv2dPack'])
def test_a_replacement_compiles_without_graph_breaks(name):
    with patch_mmcv():
        module = _build(name, getattr(mmcv.ops, name)).eval()
    inputs = {'x': torch.randn(2, 4, 6, 7)}
    if name == 'MultiScaleDeformableAttention':
        inputs = {
            'query': torch.randn(12, 2, 16),
            'reference_points': torch.rand(2, 12, 1, 2),
            'spatial_shapes': torch.tensor([[3, 4]]),
        }
    torch._dynamo.reset()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(**inputs), module(**inputs))
