"""Our IoU is mmseg's where that is exact, and exact beyond."""

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric as MmsegIoUMetric
from PIL import Image

from isda_suite.metrics import IoUMetric

CLASSES = ('road', 'house', 'tree', 'lake')
META = {'classes': CLASSES}


def samples(count=3, size_hw=(40, 56), seed=0):
    rng = np.random.default_rng(seed)

    def maps(values):
        return {'data': torch.from_numpy(rng.choice(values, (1, *size_hw)))}

    return [
        {
            'pred_sem_seg': maps([0, 1, 3]),
            'gt_sem_seg': {'data': maps([0, 1, 2, 255])['data'].to(torch.uint8)},
            'img_path': f'{index}.png',
        }
        for index in range(count)
    ]


def evaluated(kind, data, **options):
    metric = kind(iou_metrics=['mIoU', 'mDice', 'mFscore'], **options)
    metric.dataset_meta = META
    metric.process(None, data)
    return metric.evaluate(len(data))


def test_values_are_those_of_mmseg():
    ours, theirs = (
        evaluated(kind, samples(), nan_to_num=0) for kind in (IoUMetric, MmsegIoUMetric)
    )
    assert ours == pytest.approx(theirs, abs=0.011)  # both are rounded to 0.01
    assert 0 < ours['mIoU'] < 50


def test_counts_go_on_beyond_the_integers_of_float32():
    side = 4200  # 17.6 million pixels, 2^24 are 16.8
    label = torch.zeros(side, side, dtype=torch.uint8)
    label[0, 0] = 1
    areas = IoUMetric.intersect_and_union(torch.zeros(side, side, dtype=torch.int64), label, 4, 255)
    assert [int(area[0]) for area in areas] == [side**2 - 1, side**2, side**2, side**2 - 1]


def test_images_larger_than_a_chunk_are_counted_whole(monkeypatch):
    whole = evaluated(IoUMetric, samples())
    monkeypatch.setattr('isda_suite.metrics.confusion._CHUNK', 100)
    assert evaluated(IoUMetric, samples()) == whole


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('gt_sem_seg', 7, r'2\.png: labelled values reach from 0 to 7, but the classes are 0 to 3'),
        ('pred_sem_seg', -1, r'2\.png: predicted values reach from -1 to 3'),
    ],
)
def test_a_value_that_is_no_class_is_named(key, value, message):
    data = samples()
    data[2][key]['data'][0, 5, 5] = value
    data[2]['gt_sem_seg']['data'][0, 5, 5] = value if key == 'gt_sem_seg' else 0
    with pytest.raises(ValueError, match=message):
        evaluated(IoUMetric, data)


def test_sizes_that_differ_are_named():
    data = samples()
    data[1]['gt_sem_seg']['data'] = torch.zeros(1, 28, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r'1\.png: .*\(40, 56\), the label \(28, 32\)'):
        evaluated(IoUMetric, data)


def test_an_image_without_a_single_labelled_pixel_counts_nothing():
    data = samples()
    before = evaluated(IoUMetric, data, nan_to_num=0)
    (empty,) = samples(1, seed=1)
    empty['gt_sem_seg']['data'].fill_(255)
    assert evaluated(IoUMetric, [*data, empty], nan_to_num=0) == before


@pytest.mark.parametrize('format_only', [False, True])
def test_class_maps_are_written_and_counted_once(tmp_path, format_only):
    data = samples()
    found = evaluated(IoUMetric, data, output_dir=str(tmp_path), format_only=format_only)
    assert found == ({} if format_only else evaluated(IoUMetric, data))
    written = np.asarray(Image.open(tmp_path / '1.png'))
    assert (written == data[1]['pred_sem_seg']['data'].squeeze().numpy()).all()


def test_a_class_can_be_left_out_of_the_means():
    """Its pixels still count against the classes predicted there."""
    data = samples(1)
    found = evaluated(IoUMetric, data, left_out='road', classwise=True, nan_to_num=0)
    rest = [found[f'{name}_IoU'] for name in CLASSES[1:]]
    assert found['mIoU_wo_road'] == pytest.approx(np.mean(rest), abs=0.011)
    assert found['mFscore_wo_road'] != found['mFscore']
    pred, label = (data[0][key]['data'].long() for key in ('pred_sem_seg', 'gt_sem_seg'))
    house = ((pred == 1) & (label != 255), label == 1)
    expected = 100 * float((house[0] & house[1]).sum() / (house[0] | house[1]).sum())
    assert found['house_IoU'] == pytest.approx(expected, abs=0.006)


def test_a_mean_of_nothing_is_no_number_and_no_warning():
    """Where everything is predicted wrong no class has an F-score."""
    data = samples(1)
    data[0]['pred_sem_seg']['data'].fill_(3)
    data[0]['gt_sem_seg']['data'].fill_(1)
    found = evaluated(IoUMetric, data, left_out='road')
    assert np.isnan(found['mFscore_wo_road'])
    assert found['mIoU_wo_road'] == 0


def test_the_class_to_leave_out_has_to_exist():
    with pytest.raises(ValueError, match="left_out='sea' is no class of road, house, tree, lake"):
        evaluated(IoUMetric, samples(), left_out='sea')
