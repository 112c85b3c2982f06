"""What is proposed where a run does not fit, from growth that is known."""

import pytest

from isda_suite.apis.performance.memory_advice import smaller
from isda_suite.apis.performance.memory_estimate import MemoryEstimate
from isda_suite.apis.performance.memory_growth import StepGrowth
from isda_suite.apis.performance.memory_trial import Workload

# 1 kB a pixel, each image alike, nothing constant.
GROWTH = StepGrowth(
    ((1, 128**2), (1, 256**2), (1, 512**2), (2, 256**2)),
    (1e3 * 128**2, 1e3 * 256**2, 1e3 * 512**2, 2e3 * 256**2),
    0.0,
    1.0,
)


def advice(room, batch_size=4, size_hw=(512, 1024), training=True):
    load = Workload(batch_size, size_hw, training)
    step = GROWTH.bytes_of(batch_size, size_hw)
    found = MemoryEstimate(10**9, 10**8, 0, step, growth=GROWTH)
    assert found.total > room
    return smaller(None, found, load, room)


def test_the_largest_batch_and_the_largest_size_are_named():
    # 1.1 GB stay; an image takes 0.524 GB.
    text = advice(int(2.7e9))
    assert text.startswith('a batch size of 3 (about 2.67 GB) or 4 x 416 x 832 pixels')
    assert '--amp' in text and 'accumulative_counts' in text


def test_one_image_can_only_be_smaller():
    text = advice(int(1.5e9), batch_size=1, training=False)
    assert text.startswith('1 x 416 x 832 pixels (about 1.45 GB) would fit')
    assert '--amp' not in text and 'accumulative_counts' not in text


def test_what_would_not_fit_with_any_input_is_said():
    assert advice(10**9).startswith('no smaller input would: 1.10 GB are needed')


@pytest.mark.parametrize('room', [int(1.3e9), int(2e9)])
def test_what_is_proposed_fits(room):
    load = advice(room).split(' pixels')[0].split(' or ')[-1]
    batch, height, width = map(int, load.split(' x '))
    assert 1.1e9 + GROWTH.bytes_of(batch, (height, width)) <= room
