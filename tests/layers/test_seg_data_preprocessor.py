"""Labels travel as bytes and reach the loss as mmseg's would."""

import numpy as np
import pytest
import torch
from mmseg.datasets.transforms import PackSegInputs as MmsegPackSegInputs
from mmseg.models import SegDataPreProcessor as MmsegSegDataPreProcessor

from isda_suite.datasets.transforms import PackSegInputs
from isda_suite.layers import SegDataPreProcessor

OPTIONS = dict(mean=[90.0] * 3, std=[60.0] * 3, size_divisor=16, seg_pad_val=255)


def sample(**more):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    label = rng.integers(0, 7, (20, 30)).astype(np.uint8)
    return {'img': image, 'gt_seg_map': label, 'img_shape': (20, 30), 'img_path': 'a.png', **more}


def prepared(pack, preprocessor, training):
    packed = [pack().transform(sample()), pack().transform(sample(img_path='b.png'))]
    batch = {key: [one[key] for one in packed] for key in packed[0]}
    return preprocessor(**OPTIONS)(batch, training)


def test_labels_leave_the_worker_as_bytes():
    packed = PackSegInputs().transform(sample())
    data = packed['data_samples'].gt_sem_seg.data
    assert data.dtype == torch.uint8 and data.shape == (1, 20, 30)
    assert packed['inputs'].dtype == torch.uint8


def test_a_test_sample_needs_no_label():
    without = {key: value for key, value in sample().items() if key != 'gt_seg_map'}
    assert 'gt_sem_seg' not in PackSegInputs().transform(without)['data_samples']


@pytest.mark.parametrize('training', [True, False])
def test_a_batch_is_that_of_mmseg(training):
    ours = prepared(PackSegInputs, SegDataPreProcessor, training)
    theirs = prepared(MmsegPackSegInputs, MmsegSegDataPreProcessor, training)
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for mine, other in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        assert torch.equal(mine.gt_sem_seg.data, other.gt_sem_seg.data.to(mine.gt_sem_seg.data))
        assert mine.gt_sem_seg.data.dtype == (torch.int64 if training else torch.uint8)
        assert mine.metainfo == other.metainfo
