"""The switch ``patch_mmcv`` of configurations, through the tools and a stock model of mmdet."""

import json

import pytest
from mmengine.config import Config

from isda_suite import ops
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.launch import prepare_run
from isda_suite.ops.mmcv_patch import mmcv_is_patched
from tests.compat.stock_models import make_smaller, stock_model_cfg
from tests.engine.toy import write_coco, write_config
from tests.tools.running import run_python

FILE = 'dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py'
IN_LOG = "in the place of mmcv's"


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Mask R-CNN as it stands in mmdet's wheel, with two classes."""
    folder = tmp_path_factory.mktemp('stock')
    model = make_smaller('mask_rcnn', stock_model_cfg('mmdet', FILE))
    model.roi_head.bbox_head.num_classes = model.roi_head.mask_head.num_classes = 2
    extra = f'model = {model.to_dict()!r}\ntrain_cfg.update(max_iters=1)\n'
    extra += "test_pipeline.insert(1, dict(type='Resize', scale=(48, 32)))\n"
    extra += "test_pipeline[-1]['meta_keys'] += ('scale_factor',)\n"
    extra += "optim_wrapper['optimizer']['lr'] = 1e-4\n"
    return write_config(folder, write_coco(folder / 'data'), extra)


def _train(config, folder, *options):
    done = run_python(
        'tools/train.py', config, '--work-dir', 'w', '--seed', 1, *options, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    scalars = next((folder / 'w').glob('*/vis_data/scalars.json')).read_text()
    return done.stdout + done.stderr, json.loads(scalars.splitlines()[0])['loss']


def test_a_stock_model_trains_and_is_tested_on_our_operators(config, tmp_path):
    """By a line in the configuration, or on the command line; with the loss of mmcv's modules."""
    plain, patched = tmp_path / 'plain', tmp_path / 'patched'
    plain.mkdir()
    patched.mkdir()
    switched = config.with_name('switched.py')
    switched.write_text(config.read_text() + 'patch_mmcv = True\n')
    log, expected = _train(config, plain)
    assert IN_LOG not in log
    log, loss = _train(switched, patched)
    assert IN_LOG in log
    assert loss == pytest.approx(expected, rel=1e-4)
    options = ('--cfg-options', 'patch_mmcv=True')
    done = run_python('tools/test.py', config, 'w/iter_1.pth', *options, cwd=plain)
    assert done.returncode == 0, done.stderr
    assert IN_LOG in done.stdout + done.stderr


@pytest.fixture
def switched_off():
    yield
    prepare_run(Config({'model': {}}))
    assert not mmcv_is_patched()


def test_each_run_of_a_process_has_what_its_configuration_says(switched_off):
    import mmcv.ops  # noqa: F401  registers DCN
    from mmengine.registry import MODELS

    layer = {'type': 'DCN', 'in_channels': 4, 'out_channels': 4, 'kernel_size': 3}
    for on in (True, True, False, True):
        prepare_run(Config({'model': {}, 'patch_mmcv': on}))
        assert isinstance(MODELS.build(layer), ops.DeformConv2dPack) == on


def test_a_patch_made_by_the_program_is_left_alone():
    with ops.patch_mmcv():
        prepare_run(Config({'model': {}}))
        assert mmcv_is_patched()


def test_another_value_is_refused():
    with pytest.raises(ConfigError, match="patch_mmcv must be True or False, got 'yes'"):
        prepare_run(Config({'model': {}, 'patch_mmcv': 'yes'}))
