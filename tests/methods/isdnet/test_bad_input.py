"""What is special about ISDNet's input: options, single images, ranks without labelled pixels."""

import cv2
import numpy as np
import pytest

from tests.data.deepglobe_fake.make import NAMES, SIZE_HW, make
from tests.methods.rank_weights import assert_only_the_first_rank_had_targets, train_on_two_ranks

EMPTY_RANK = """
_base_ = [{config!r}]
custom_imports = dict(imports=['isda_suite', 'tests.methods.rank_weights'],
                      allow_failed_imports=False)
default_hooks = dict(weights=dict(type='RankWeights', folder={folder!r}))
train_cfg = dict(max_iters=3, val_interval=10)
train_dataloader = dict(
    batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_root={data!r}))
"""


@pytest.mark.parametrize(
    ('option', 'remedy'),
    [
        ('+model.deep_sampling=lanczos', 'deep_sampling: expected one of'),
        ('+model.refine_head.seg_bn_init=two', 'refine_head.seg_bn_init: expected one of'),
        ('model.refine_head.type=isda_suite.RefinedHead', "did you mean 'isda_suite.RefineHead'"),
        ('+model.refine_head.drop_ratio=0.2', "did you mean 'dropout_ratio'"),
        ('model.refine_head.num_classes=6', 'all heads predict the same classes'),
        ('model.shallow_branch.in_channels=3', 'channels, got 3'),
        ('train_dataloader.batch_size=1', 'train_dataloader.batch_size=2 or more'),
    ],
)
def test_a_wrong_option_ends_with_code_2(train, option, remedy):
    code, said = train(option)
    assert code == 2, said
    assert remedy in said


def test_a_rank_without_labelled_pixels_finishes_and_both_stay_equal(config, tmp_path):
    """Two gloo ranks; the sampler deals images in turn, and every second one is all ignored."""
    data = make(tmp_path / 'data', parts=('train',))
    for name in sorted(NAMES)[1::2]:
        path = data / 'rgb2id' / 'train' / f'{name}_mask.png'
        assert cv2.imwrite(str(path), np.full(SIZE_HW, 255, np.uint8))
    wrapper = tmp_path / 'ranks.py'
    wrapper.write_text(EMPTY_RANK.format(config=str(config), folder=str(tmp_path), data=f'{data}/'))
    _, ranks = train_on_two_ranks(wrapper, tmp_path)
    parts = ('backbone', 'decode_head', 'auxiliary_head', 'shallow_branch', 'refine_head')
    assert_only_the_first_rank_had_targets(*ranks, parts)
