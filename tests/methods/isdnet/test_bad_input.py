"""What is special about ISDNet's input: options, single images, ranks without labelled pixels."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.deepglobe_fake.make import NAMES, SIZE_HW, ids, make, write_image, write_mask
from tests.methods.rank_weights import assert_only_the_first_rank_had_targets, train_on_two_ranks
from tests.tools.in_process import call_tool

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


@pytest.mark.ranks
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


@pytest.fixture
def train_and_test(train, config, tmp_path, monkeypatch, capsys):
    """Train on and evaluate DeepGlobe's layout with one image of another size."""

    def run(size_hw):
        parts = ('train', 'val', 'test')
        data = make(tmp_path / 'data', parts)
        for part in ('train', 'test'):
            write_image(data / 'img_dir' / part / '21_sat.jpg', np.resize(ids(1), size_hw))
            write_mask(data / 'rgb2id' / part / '21_mask.png', np.resize(ids(1), size_hw))
        options = [f'{part}_dataloader.dataset.data_root={data}/' for part in parts]
        assert train(*options, 'train_dataloader.batch_size=4')[0] == 0
        weights, out = tmp_path / 'w/iter_1.pth', ('--work-dir', tmp_path, '--out-dir', tmp_path)
        test = ('tools/test.py', config, weights, *out, '--cfg-options', *options)
        code = call_tool(monkeypatch, *test)
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize('size_hw', [(20, 24), (37, 53), (8, 131)])
def test_an_image_below_the_crop_and_divisible_by_nothing_is_evaluated_whole(
    train_and_test, tmp_path, size_hw
):
    assert train_and_test(size_hw)[0] == 0
    with (tmp_path / 'per_image.csv').open(newline='') as file:
        counted = {Path(r['img_path']).name: r['labelled_pixels'] for r in csv.DictReader(file)}
    assert counted['21_sat.jpg'] == str(size_hw[0] * size_hw[1])


def test_an_image_too_small_for_the_network_is_filled_up_in_training_only(train_and_test):
    code, said = train_and_test((7, 90))
    assert code == 2
    assert '/test/21_sat.jpg: images must have sides of at least 8 pixels, got 7 x 90' in said
    assert 'enlarge or pad them' in said
