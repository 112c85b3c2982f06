"""Stock models of mmdet and mmseg are built from the config files inside their wheels, trained
two iterations and asked for a prediction, all on the stand-in for mmcv's compiled operators.
"""

import copy

import pytest
import torch

from isda_suite.compat.import_hook import stand_in_is_used
from tests.compat.stock_models import build, make_smaller, stock_model_cfg

SIZE_HW = (64, 96)

DETECTORS = {
    'condinst': 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    'mask2former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'deformable_detr': 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'mask_rcnn_dcnv2': 'dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
    'faster_rcnn_carafe': 'carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py',
    'faster_rcnn_mdpool': 'dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco.py',
    'ga_retinanet': 'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py',
    'reppoints': 'reppoints/reppoints-moment_r50_fpn_1x_coco.py',
}


@pytest.fixture(autouse=True)
def one_thread():
    """The models are tiny: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_two_iterations(model, data):
    """Train as the Runner does; return what was lost and which parameters moved."""
    from mmengine.optim import OptimWrapper

    model.train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=1.0))
    logs = [model.train_step(copy.deepcopy(data), wrapper) for _ in range(2)]
    moved = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}
    return logs, moved


def assert_trained(model, logs, moved):
    for log in logs:
        assert log['loss'] > 0
        assert all(torch.isfinite(value).all() for value in log.values())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(moved) >= 0.9 * len(trained), sorted(trained - moved)


@pytest.mark.parametrize('name, file', DETECTORS.items())
def test_stock_detector_trains_and_predicts(name, file):
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules

    if not stand_in_is_used():
        pytest.skip('a compiled mmcv is installed, so the stand-in does not run')
    register_all_modules(init_default_scope=False)
    cfg = make_smaller(name, stock_model_cfg('mmdet', file))
    model = build(MODELS, cfg, 'mmdet')
    data = demo_mm_inputs(2, [(3, *SIZE_HW)] * 2, num_items=[2, 3], num_classes=80, with_mask=True)

    assert_trained(model, *train_two_iterations(model, data))

    model.eval()
    with torch.no_grad():
        # one image at a time, as mmcv's masked convolution needs it
        results = [model.test_step({k: [v[i]] for k, v in data.items()})[0] for i in range(2)]
    assert all(torch.isfinite(result.pred_instances.scores).all() for result in results)
    if name == 'mask_rcnn_dcnv2':
        kinds = {type(module).__name__ for module in model.modules()}
        assert 'ModulatedDeformConv2dPack' in kinds


def test_stock_segmentor_trains_and_predicts():
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    cfg = stock_model_cfg('mmseg', 'upernet/upernet_r18_4xb2-40k_cityscapes-512x1024.py')
    cfg.data_preprocessor.size = SIZE_HW
    model = build(MODELS, cfg, 'mmseg')
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(2):
        labels = torch.randint(0, 19, (1, *SIZE_HW), generator=generator)
        meta = dict(img_shape=SIZE_HW, ori_shape=SIZE_HW, pad_shape=SIZE_HW, padding_size=[0] * 4)
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta)
        samples.append(sample)
    images = [
        torch.randint(0, 256, (3, *SIZE_HW), generator=generator, dtype=torch.uint8)
        for _ in samples
    ]
    data = dict(inputs=images, data_samples=samples)

    assert_trained(model, *train_two_iterations(model, data))

    model.eval()
    with torch.no_grad():
        results = model.test_step(data)
    assert results[0].pred_sem_seg.data.shape == (1, *SIZE_HW)
