"""What is special about IDIP's input: options, targets, batches and ranks without objects."""

import json

import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.load import load_into
from isda_suite.registry import MODELS
from tests.methods.idip.build import instances, samples, small_idip
from tests.methods.rank_weights import assert_only_the_first_rank_had_targets, train_on_two_ranks

SIZE = (64, 96)
EMPTY_RANK = """
_base_ = [{config!r}]
custom_imports = dict(imports=['isda_suite', 'tests.methods.rank_weights'],
                      allow_failed_imports=False)
default_hooks = dict(weights=dict(type='RankWeights', folder={folder!r}))
train_cfg = dict(max_iters=3, val_interval=10)
train_dataloader = dict(
    batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False), batch_sampler=None,
    dataset=dict(ann_file={ann_file!r}, filter_cfg=dict(filter_empty_gt=False)))
"""


@pytest.mark.parametrize(
    ('option', 'remedy'),
    [
        ('model.test_cfg.sampling_steps=0', 'sampling_steps: expected an integer of at least 1'),
        ('model.test_cfg.sampling_steps=1001', 'sampling_steps: expected at most 1000, the length'),
        ('model.test_cfg.sampling_type=DDIN', 'test_cfg.sampling_type: expected one of'),
        ('+model.test_cfg.sampling_step=2', 'unknown sampling_step; IDIP knows num_proposals'),
        ('model.test_cfg.num_proposals=0', 'test_cfg.num_proposals: expected an integer of at'),
        ('model.num_proposals=0', 'num_proposals: expected an integer of at least 1'),
        ('model.diffusion.num_steps=0', 'diffusion.num_steps: expected an integer'),
        ('model.roi_head.num_stages=0', 'roi_head.num_stages: expected an integer'),
        ('model.roi_head.mask_head.batching=all', 'roi_head.mask_head.batching: expected one of'),
        ('model.roi_head.loss.assigner.center_size=box', 'assigner.center_size: expected one of'),
        ('+model.roi_head.loss.normaliser=all', 'roi_head.loss.normaliser: expected one of'),
        ('model.roi_head.num_classes=7', 'num_classes=7, but the data set has 5 classes'),
    ],
)
def test_a_wrong_option_ends_with_code_2(train, option, remedy):
    code, said = train(option)
    assert code == 2, said
    assert remedy in said


def loss_of(gt):
    model = small_idip().train()
    return model.loss(torch.zeros(1, 3, *SIZE), samples([SIZE], [gt], ids=['a.png']))


def changed(gt, **fields):
    return InstanceData(
        **{**{name: gt.get(name) for name in ('labels', 'bboxes', 'masks')}, **fields}
    )


def without(gt, name):
    return InstanceData(**{key: value for key, value in gt.items() if key != name})


TARGETS = instances(SIZE, [(4, 4, 40, 40), (30, 20, 90, 60)])


@pytest.mark.parametrize(
    ('gt', 'message'),
    [
        (without(TARGETS, 'bboxes'), r'a\.png: .* 2 labels, 0 bboxes, 2 masks; .*with_bbox'),
        (without(TARGETS, 'masks'), r'got 2 labels, 2 bboxes, 0 masks; .*with_mask=True'),
        (changed(TARGETS, bboxes=torch.tensor([[4.0, 4, 40, 40], [96, 3, 120, 9]])),
         r'image a\.png: box 1 .* = \[96\.0, 3\.0, 120\.0, 9\.0\] .* outside the image of 96 x 64'),
        (changed(TARGETS, bboxes=torch.tensor([[4.0, 4, 4, 40], [6, 3, 20, 9]])), 'box 0 .* side'),
        (changed(TARGETS, bboxes=torch.tensor([[4.0, 4, torch.nan, 40], [6, 3, 20, 9]])), 'box 0'),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_together_name_the_image(gt, message):
    with pytest.raises(ValueError, match=message):
        loss_of(gt)


def test_boxes_that_reach_out_of_the_image_and_none_at_all_are_fine():
    partly = changed(TARGETS, bboxes=torch.tensor([[-9.0, 4, 40, 40], [30, 20, 120, 70]]))
    for gt in (partly, TARGETS[:0], InstanceData()):
        assert all(torch.isfinite(value) for value in loss_of(gt).values())


def test_sizes_that_are_no_multiple_of_32_name_the_option():
    with pytest.raises(ValueError, match=r'multiples of 32, got 64 x 100.*pad_size_divisor=32'):
        small_idip().extract_feat(torch.zeros(1, 3, 64, 100))


@pytest.mark.parametrize('option', ['norm_cfg', 'train_cfg'])
def test_what_would_wait_for_ever_or_do_nothing_is_refused(option):
    changes = {
        'norm_cfg': {'roi_head.mask_head.norm_cfg': dict(type='SyncBN')},
        'train_cfg': {'train_cfg': dict(assigner=dict(type='SimOTAAssigner'))},
    }
    message = {'norm_cfg': "SyncBN needs batching='joint'", 'train_cfg': 'options of roi_head.loss'}
    with pytest.raises(ValueError, match=message[option]):
        small_idip(**changes[option])


def test_a_checkpoint_with_other_stages_says_how_many(config):
    init_default_scope('mmdet')
    cfg = Config.fromfile(config).model
    state = MODELS.build(cfg).state_dict()
    cfg.roi_head.num_stages = 3
    message = r'roi_head\.dynamic_heads has 2 entries in the checkpoint and 3 in the model'
    with pytest.raises(CheckpointError, match=message) as error:
        load_into(MODELS.build(cfg), {'state_dict': state})
    assert 'roi_head.time_heads has 2 entries' in str(error.value)
    assert 'backbone' not in str(error.value)


def _without_objects(data, tmp_path, kept):
    """Write annotations of which only every image with an index in ``kept`` has objects."""
    content = json.loads((data / 'annotations/instances_train.json').read_text())
    images = [image['id'] for image in content['images']]
    wanted = {images[index] for index in kept}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in wanted]
    assert bool(content['annotations']) == bool(kept)
    path = tmp_path / 'thinned.json'
    path.write_text(json.dumps(content))
    return path


def test_a_batch_without_objects_trains(train, data, tmp_path):
    path = _without_objects(data, tmp_path, kept=[])
    dataset = 'train_dataloader.dataset'
    code, said = train(f'{dataset}.ann_file={path}', f'{dataset}.filter_cfg.filter_empty_gt=False')
    assert code == 0, said


@pytest.mark.ranks
def test_a_rank_without_objects_finishes_and_both_stay_equal(config, data, tmp_path):
    """Two gloo ranks, started as mpirun does; one sees no object and waits for nobody."""
    path = _without_objects(data, tmp_path, kept=[0, 2])
    wrapper = tmp_path / 'ranks.py'
    wrapper.write_text(
        EMPTY_RANK.format(config=str(config), folder=str(tmp_path), ann_file=str(path))
    )
    _, ranks = train_on_two_ranks(wrapper, tmp_path)
    assert_only_the_first_rank_had_targets(*ranks, ('backbone', 'neck', 'roi_head'))
