"""Stock models of mmdet and mmseg with mmcv's modules and, patched, with ours.

Both are built from the same configuration and seed. Start values must be equal bit for bit, losses
and gradients to the rounding of float32 sums in another order.
"""

import pytest
import torch
from torch import nn

from isda_suite import ops
from isda_suite.ops import patch_mmcv
from tests.compat.stock_models import build, make_smaller, stock_model_cfg

SIZE_HW = (64, 96)
LOSS_BOUND, GRADIENT_BOUND = 1e-5, 1e-3
ATTENTION = ops.MultiScaleDeformableAttention
MODELS_UNDER_TEST = {
    'deformable_detr': ('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', ATTENTION),
    'dino': ('dino/dino-4scale_r50_8xb2-12e_coco.py', ATTENTION),
    'mask2former': ('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', ATTENTION),
    'dcn': ('dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py', ops.DeformConv2dPack),
    'dcnv2': (
        'dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
        ops.ModulatedDeformConv2dPack,
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    """The models are tiny: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _detector(name):
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    return build(
        MODELS, make_smaller(name, stock_model_cfg('mmdet', MODELS_UNDER_TEST[name][0])), 'mmdet'
    )


def _detector_data():
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [(3, *SIZE_HW)] * 2, num_items=[2, 3], num_classes=80, with_mask=True)


def _disturb(model):
    """Move points off their start: offsets begin as zero or whole pixels."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if 'conv_offset' in name or 'sampling_offsets' in name or 'attention_weights' in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.05 * noise


def _step(model, data):
    """Losses and gradients of one training step."""
    model.train()
    model.zero_grad()
    torch.manual_seed(0)
    losses, log = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))
    losses.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {n: float(v) for n, v in log.items()}, gradients


def _require_equal(ours, theirs, data):
    losses, gradients = _step(ours, data)
    expected_losses, expected_gradients = _step(theirs, data)
    assert losses == pytest.approx(expected_losses, rel=LOSS_BOUND)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(g.norm() for g in expected_gradients.values())
    for name, expected in expected_gradients.items():
        scale = max(expected.norm(), 1e-4 * largest)
        assert (gradients[name] - expected).norm() < GRADIENT_BOUND * scale, name


def _require_equal_start(ours, theirs):
    state, expected = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def _count(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.parametrize('name', MODELS_UNDER_TEST)
def test_a_stock_detector_gives_equal_losses_and_gradients_on_our_modules(name):
    kind = MODELS_UNDER_TEST[name][1]
    theirs = _detector(name)
    with patch_mmcv():
        ours = _detector(name)
    assert _count(theirs, kind) == 0 < _count(ours, kind)
    _require_equal_start(ours, theirs)
    _disturb(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    _require_equal(ours, theirs, _detector_data())


def test_a_model_built_before_keeps_working_under_the_patch():
    theirs = _detector('deformable_detr')
    data = _detector_data()
    expected = _step(theirs, data)
    with patch_mmcv():
        found = _step(theirs, data)
    assert found[0] == pytest.approx(expected[0], rel=LOSS_BOUND)


def test_a_model_built_under_the_patch_is_initialised_after_it_as_before():
    """Deformable DETR starts its attention only where ``isinstance`` finds mmcv's class."""
    theirs = _detector('deformable_detr')
    with patch_mmcv():
        ours = _detector('deformable_detr')
    _disturb(theirs)
    _disturb(ours)
    for model in (theirs, ours):
        torch.manual_seed(3)
        model._is_init = False
        model.init_weights()
    _require_equal_start(ours, theirs)


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_a_stock_segmentor_gives_equal_losses_and_gradients_on_our_modules(kind):
    theirs = _segmentor(kind)
    with patch_mmcv():
        ours = _segmentor(kind)
    expected = {'DCN': ops.DeformConv2dPack, 'DCNv2': ops.ModulatedDeformConv2dPack}[kind]
    assert _count(ours, expected) == 3
    _require_equal_start(ours, theirs)
    _disturb(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    _require_equal(ours, theirs, _segmentor_data())


def _segmentor(kind):
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    cfg = stock_model_cfg('mmseg', 'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py')
    cfg.data_preprocessor.size = SIZE_HW
    cfg.backbone.dcn = dict(type=kind, deform_groups=1, fallback_on_stride=False)
    cfg.backbone.stage_with_dcn = (False, False, False, True)
    cfg.backbone.norm_eval = True
    return build(MODELS, cfg, 'mmseg')


def _segmentor_data():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (1, *SIZE_HW), generator=generator)
    meta = dict(img_shape=SIZE_HW, ori_shape=SIZE_HW, pad_shape=SIZE_HW, padding_size=[0] * 4)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta) for _ in range(2)]
    images = torch.randint(0, 256, (2, 3, *SIZE_HW), generator=generator, dtype=torch.uint8)
    return {'inputs': [*images], 'data_samples': samples}


@pytest.mark.parametrize('when', ['before', 'meanwhile'])
def test_the_learning_rate_of_offsets_is_set_whatever_the_classes_are(when):
    """mmengine looks for mmcv's classes when it makes the optimizer."""
    from mmengine.optim import build_optim_wrapper

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            import mmcv.ops

            self.layer = mmcv.ops.ModulatedDeformConv2dPack(4, 4, 3)

    wrapper = dict(optimizer=dict(type='SGD', lr=1.0), paramwise_cfg=dict(dcn_offset_lr_mult=0.1))
    if when == 'before':
        model = Model()
        with patch_mmcv():
            groups = build_optim_wrapper(model, wrapper).param_groups
    else:
        with patch_mmcv():
            model = Model()
        groups = build_optim_wrapper(model, wrapper).param_groups
    slow = [group for group in groups if group['lr'] == pytest.approx(0.1)]
    assert len(slow) == 2 and len(groups) == 5  # weight and bias of the offsets
