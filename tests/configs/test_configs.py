"""Every configuration of configs/ builds, checks and counts as expected."""

import ast
import json
import re
from pathlib import Path

import pytest
from mmengine import Config
from mmengine.registry import MODELS, DefaultScope

from isda_suite.engine.class_count import put_class_count
from isda_suite.engine.config_checks import check_keys
from isda_suite.engine.type_checks import check_types
from isda_suite.resources import resource_root

CONFIGS = resource_root() / 'configs'
FILES = sorted(p for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts)
COUNTS = json.loads((Path(__file__).parent / 'parameter_counts.json').read_text())
# {method}_{backbone}_{gpus}xb{batch}-{schedule}_{dataset}, samples, custom sets, and the names
# that the original READMEs use.
NAME = re.compile(
    r'^[a-z]+_(sample'
    r'|[a-z0-9-]+_(sample|custom_[a-z]+|\d+xb\d+-\w+_[a-z0-9-]+|3x_coco(-testdev)?)'
    r'|1224x1224_80k_deepglobe)$'
)


def names(files):
    return [str(p.relative_to(CONFIGS)) for p in files]


@pytest.mark.parametrize('file', FILES, ids=names(FILES))
def test_config_builds_with_the_stored_number_of_parameters(file):
    cfg = Config.fromfile(file)
    check_keys(cfg)
    check_types(cfg)
    put_class_count(cfg.model, 80)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        # Building must not change the defaults of a class: a second model is the same.
        again = [name for name, _ in MODELS.build(cfg.model).named_parameters()]
    assert again == [name for name, _ in model.named_parameters()]
    parameters = list(model.parameters())
    counts = {
        'all': sum(p.numel() for p in parameters),
        'trainable': sum(p.numel() for p in parameters if p.requires_grad),
    }
    assert counts == COUNTS[str(file.relative_to(CONFIGS))]


@pytest.mark.parametrize('file', FILES, ids=names(FILES))
def test_workers_hand_over_bytes(file):
    cfg = Config.fromfile(file)
    text = str([cfg.get(f'{part}_dataloader') for part in ('train', 'val', 'test')])
    # Four times the memory and the transfer; the data preprocessor normalises on the device.
    assert 'Normalize' not in text and "'to_float32': True" not in text


def _attention_configs(node, key=''):
    if isinstance(node, dict):
        if key.endswith('attn_cfg') and 'num_levels' not in node:
            yield node
        for name, value in node.items():
            yield from _attention_configs(value, str(name))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _attention_configs(value, key)


@pytest.mark.parametrize('file', FILES, ids=names(FILES))
def test_no_attention_changes_the_dropout_of_those_built_after_it(file):
    """mmcv's MultiheadAttention writes the old argument into its default, which all share."""
    for node in _attention_configs(Config.fromfile(file).to_dict()):
        assert not node.get('dropout') or 'dropout_layer' in node, node


def test_the_published_model_has_the_published_size():
    assert COUNTS['isda/isda_r50_3x_coco.py'] == {'all': 41_908_624, 'trainable': 41_633_104}


def test_every_stored_number_belongs_to_a_config():
    assert set(COUNTS) == set(names(FILES))


@pytest.mark.parametrize('file', FILES, ids=names(FILES))
def test_names_follow_the_pattern(file):
    assert NAME.match(file.stem), f'{file.stem} does not fit {NAME.pattern}'
    assert file.stem.startswith(file.parent.name)


def test_variants_state_only_their_difference():
    """A custom set replaces data, schedule and loop, and says so at its top."""
    for file in FILES:
        text = file.read_text()
        if "_base_ = ['./" in text and '_custom_' not in file.stem:
            lines = [line for line in text.splitlines() if line and not line.startswith('#')]
            assert len(lines) <= 20, file


def test_the_published_recipe_is_the_published_one():
    cfg = Config.fromfile(CONFIGS / 'isda/isda_r50_3x_coco.py')
    assert cfg.train_cfg.max_epochs == 42
    assert cfg.param_scheduler[0].milestones == [27, 33, 35, 36, 37]
    assert cfg.optim_wrapper.optimizer.lr == 1.25e-4
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
    shorter = Config.fromfile(CONFIGS / 'isda/isda_r50_8xb1-36e_coco.py')
    assert shorter.train_cfg.max_epochs == 36
    assert shorter.param_scheduler[0].milestones == [27, 33]


def test_the_reduced_learning_rate_reaches_the_published_tensors():
    """68 trainable tensors: 42 backbone convolutions, 24 offsets, 2 reference points."""
    from mmengine.optim import build_optim_wrapper

    cfg = Config.fromfile(CONFIGS / 'isda/isda_r50_3x_coco.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    # Frozen tensors get a group of their own too; only trainable ones count.
    reduced = [g for g in groups if g['lr'] < 1.2e-4 and g['params'][0].requires_grad]
    assert len(reduced) == 68


def test_the_published_recipe_of_isdnet_is_the_published_one():
    cfg = Config.fromfile(CONFIGS / 'isdnet/isdnet_1224x1224_80k_deepglobe.py')
    optimizer, (schedule,) = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert (optimizer.type, optimizer.lr, optimizer.momentum) == ('SGD', 0.01, 0.9)
    assert optimizer.weight_decay == 5e-4 and 'paramwise_cfg' not in cfg.optim_wrapper
    assert (schedule.type, schedule.power, schedule.eta_min) == ('PolyLR', 0.9, 1e-4)
    assert (schedule.begin, schedule.end, schedule.by_epoch) == (0, 80_000, False)
    assert cfg.train_cfg.max_iters == 80_000 and cfg.train_cfg.val_interval == 4000
    crop = cfg.train_pipeline[2]
    assert (crop.crop_size, crop.cat_max_ratio) == ((1224, 1224), 0.75)
    inria = Config.fromfile(CONFIGS / 'isdnet/isdnet_r18_4xb1-40k_inria.py')
    assert inria.param_scheduler[0].end == inria.train_cfg.max_iters == 40_000
    assert inria.model.data_preprocessor.size == (2000, 2000)
    assert inria.train_pipeline[2].scale == (4000, 4000)


def test_the_published_recipe_of_idip_is_the_published_one():
    cfg = Config.fromfile(CONFIGS / 'idip/idip_r50_2xb8-90k_coco.py')
    optimizer, (warm_up, steps) = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 5e-5, 1e-4)
    assert 'paramwise_cfg' not in cfg.optim_wrapper, 'norms and biases decay too'
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0
    assert (warm_up.start_factor, warm_up.end) == (0.01, 1001)
    assert (steps.milestones, cfg.train_cfg.max_iters) == ([60_000, 80_000], 90_000)
    assert cfg.train_dataloader.batch_size == 8 and cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.randomness.seed == 42 and cfg.model.num_proposals == 300
    assert [scale[0] for scale in cfg.scales] == list(range(480, 801, 32))
    larger = Config.fromfile(CONFIGS / 'idip/idip_r101_2xb8-90k_coco.py')
    assert larger.model.backbone.depth == 101
    cityscapes = Config.fromfile(CONFIGS / 'idip/idip_r50_2xb8-90k_cityscapes.py')
    assert cityscapes.model.roi_head.num_classes == len(cityscapes.metainfo.classes) == 8
    custom = Config.fromfile(CONFIGS / 'idip/idip_r50_custom_coco.py').model
    assert custom.backbone.style == 'caffe' and not custom.data_preprocessor.bgr_to_rgb


@pytest.mark.parametrize(
    ('name', 'side'), [('r18_4xb2-80k_deepglobe', 1958), ('r18_4xb1-40k_inria', 4000)]
)
def test_the_reduced_protocol_resizes_in_testing_only(name, side):
    cfg = Config.fromfile(CONFIGS / f'isdnet/isdnet_{name}-ratio08.py')
    test, val = (cfg[f'{part}_dataloader'].dataset for part in ('test', 'val'))
    assert [step.scale for step in test.pipeline if step.type == 'Resize'] == [(side, side)]
    assert not [step for step in val.pipeline if step.type == 'Resize']
    assert test.data_prefix.img_path.endswith('test')


def _depth(file):
    """Count the steps from a file to `_base_`; another room's configuration counts as one."""
    bases = re.search(r'^_base_ = (\[[^]]*\])', file.read_text(), re.MULTILINE)
    steps = [
        1 if '_base_' in base or Path(base).parent.name else 1 + _depth(file.parent / base)
        for base in ast.literal_eval(bases[1])
    ]
    return max(steps)


@pytest.mark.parametrize('file', sorted((CONFIGS / 'iuq').glob('*.py')), ids=lambda f: f.stem)
def test_inheritance_is_at_most_two_deep(file):
    assert _depth(file) <= 2


@pytest.mark.parametrize('file', sorted((CONFIGS / 'iuq').glob('*.py')), ids=lambda f: f.stem)
def test_with_and_without_iuq_the_recipe_is_the_same(file):
    cfg = Config.fromfile(file)
    if cfg.model.type != 'isda_suite.IUQDetector':
        return
    (base,) = ast.literal_eval(re.search(r'^_base_ = (\[.*\])', file.read_text(), re.M)[1])
    plain = Config.fromfile(file.parent / base)
    assert cfg.model.detector == plain.model
    assert {key for key in cfg if cfg[key] != plain.get(key)} <= {'model', 'iuq'}
