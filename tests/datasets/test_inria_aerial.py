"""Inria aerial: item, length, missing, corrupt, wrong size, drawing; official masks."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from isda_suite.datasets.errors import DataError
from isda_suite.registry import DATASETS
from isda_suite.visualization import draw_samples
from tests.data.inria_fake.make import NAMES, SIZE_HW, config, ids, make
from tests.datasets.test_deepglobe import PIPELINE, label_of


@pytest.fixture
def root(tmp_path):
    return make(tmp_path)


@pytest.fixture
def build(root):
    def build(**changes):
        with DefaultScope.overwrite_default_scope('mmseg'):
            return DATASETS.build(config(root, pipeline=PIPELINE, **changes))

    return build


@pytest.mark.parametrize('official', [False, True])
def test_an_item_has_the_ids_of_its_mask(build, official):
    dataset = build(official=official)
    assert len(dataset) == len(NAMES)
    for index in range(len(NAMES)):
        assert dataset[index]['inputs'].shape == (3, *SIZE_HW)
        assert np.array_equal(label_of(dataset[index]), ids(index))


def test_a_missing_label_is_named(build, root):
    (root / 'labels/train/austin1_mask.png').unlink()
    with pytest.raises(DataError, match=r'no image .*austin1_mask\.png'):
        build()[0]


def test_a_corrupt_image_says_what_it_is(build, root):
    path = root / 'imgs/train/austin1_sat.tif'
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r'austin1_sat\.tif: its 300 bytes cannot be decoded'):
        build()[0]


def test_a_label_of_another_size_is_refused(build, root):
    cv2.imwrite(str(root / 'labels/train/austin1_mask.png'), np.zeros((20, 40), np.uint8))
    with pytest.raises(DataError, match=r'austin1_mask\.png: the label is .*\(20, 40\)'):
        build()[0]


def test_samples_can_be_drawn(build, tmp_path):
    written = draw_samples(build(), tmp_path / 'out', num=2, progress=False)
    picture = cv2.imread(str(written[0]))
    # The building is white over grey, the ground black over noise.
    assert picture[200, 200].min() > 150 and picture[330, 200].max() < 60


def test_official_masks_read_as_ids_are_refused_or_ignored_on_purpose(build, root):
    for index, name in enumerate(NAMES):
        cv2.imwrite(str(root / f'labels/train/{name}_mask.png'), 255 * ids(index))
    with pytest.raises(DataError, match=r'holds only 0 and 255.*set raw_masks=True'):
        build()[0]
    assert set(np.unique(label_of(build(raw_masks=False)[0]))) == {0, 255}
    # No building in the image: nothing to tell ids and colours apart, and no need to.
    assert not label_of(build()[2]).any()


def test_a_grey_that_is_no_class_is_an_error(build, root):
    mask = 255 * ids(0)
    mask[3, 5] = 254
    cv2.imwrite(str(root / 'official/gt/austin1.tif'), mask)
    with pytest.raises(DataError, match=r'1 pixels have a colour.*254 at \(y, x\) = \(3, 5\)'):
        build(official=True)[0]


def test_the_published_split_is_whole(build):
    names = {
        split: {info['img_path'] for info in build(split=split, lazy_init=True).load_data_list()}
        for split in ('train', 'val', 'test')
    }
    assert [len(part) for part in names.values()] == [126, 27, 27]
    assert len(set.union(*names.values())) == 180
