"""What is special about ISDA's input: sizes, options, batches and ranks without objects."""

import json

import pytest

from tests.methods.rank_weights import assert_only_the_first_rank_had_targets, train_on_two_ranks

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
        ('+model.bbox_head.position_mode=logits', 'bbox_head.position_mode: expected one of'),
        ('+model.bbox_head.target_down=max', 'bbox_head.target_down: expected one of'),
        ('+model.mask_feat_source=backbone', 'mask_feat_source: expected one of'),
        ('model.bbox_head.type=isda_suite.ISDAHeadd', "did you mean 'isda_suite.ISDAHead'"),
        ('+model.bbox_head.mask_chanels=64', "did you mean 'mask_channels'"),
        ('model.num_querys=9', 'did you mean model.num_queries'),
        ('model.bbox_head.num_classes=7', 'num_classes=7, but the data set has 5 classes'),
        ('+model.with_box_refine=True', 'with_box_refine: ISDA has no boxes to refine'),
        ('model.backbone.depth=51', 'isda_tiny.py cannot be built: KeyError: invalid depth 51'),
        ('+model.encoder.num_cp=1', 'set activation_checkpointing'),
    ],
)
def test_a_wrong_option_ends_with_code_2(train, option, remedy):
    code, said = train(option)
    assert code == 2, said
    assert remedy in said


def test_sizes_that_are_no_multiple_of_32_name_the_option(train, config, tmp_path):
    odd = tmp_path / 'odd.py'
    odd.write_text(
        f"""
_base_ = [{str(config)!r}]
pipeline = [dict(type='isda_suite.LoadImage'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(50, 50)), dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
"""
    )
    code, said = train('model.data_preprocessor.pad_size_divisor=1', config=odd)
    assert code == 2
    assert 'multiples of 32, got 50 x 50' in said and 'pad_size_divisor=32' in said
    assert train(config=odd)[0] == 0, 'with the divisor images of any size train'


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
    """Two gloo ranks, started as mpirun does and without a compiled library; one sees no object."""
    path = _without_objects(data, tmp_path, kept=[0, 2])
    wrapper = tmp_path / 'ranks.py'
    wrapper.write_text(
        EMPTY_RANK.format(config=str(config), folder=str(tmp_path), ann_file=str(path))
    )
    said, ranks = train_on_two_ranks(
        wrapper, tmp_path, ISDA_OPS_LIBRARY=str(tmp_path / 'nowhere.so')
    )
    assert all('python -m isda_suite.ops build' in text for text in said)
    parts = ('backbone', 'neck', 'encoder', 'decoder', 'bbox_head', 'mask_feat_head')
    assert_only_the_first_rank_had_targets(*ranks, parts)
