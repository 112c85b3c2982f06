"""Sizes and TIFF files of every kind through the real tools, on a toy segmentor.

Each is either read, with a note of what is lost, or refused with its name and what to do.
"""

import csv
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.deepglobe_fake.make import PALETTE, SIZE_HW, ids, make, write_mask
from tests.data.tiff import write_tiff
from tests.reliability.segmentor_tools import caller

IMAGE = 'img_dir/train/21_sat.tif'
TIFF = """
for _loader in (train_dataloader, val_dataloader):
    _loader['dataset']['img_suffix'] = '_sat.tif'
"""
TRAIN = ('tools/train.py',)
CHECK = ('tools/check_dataset.py',)
CHECK_ALL = ('tools/check_dataset.py', '--images')


@pytest.fixture
def data(tmp_path):
    """Return data whose images are TIFF files."""
    root = make(tmp_path / 'data')
    for path in root.glob('img_dir/*/*.jpg'):
        assert cv2.imwrite(str(path.with_suffix('.tif')), cv2.imread(str(path)))
        path.unlink()
    return root


@pytest.fixture
def tool(tmp_path, data, monkeypatch, capsys):
    """Run a tool on the toy configuration; returns its exit code and all it said."""
    run = caller(tmp_path, data, monkeypatch, capsys)
    return lambda *words, extra='': run(*words, extra=TIFF + extra)


def _write_pair(data, size_hw, name='21', split='train'):
    label = np.resize(ids(1), size_hw)
    assert cv2.imwrite(str(data / f'img_dir/{split}/{name}_sat.tif'), PALETTE[label] // 2)
    write_mask(data / f'rgb2id/{split}/{name}_mask.png', label)


@pytest.mark.parametrize('size_hw', [(20, 24), (1, 1), (37, 53), (20, 200)])
def test_images_of_any_size_train_beside_others_and_are_evaluated_whole(tool, data, size_hw):
    """The crop is 32 x 32: what is smaller is filled up, with pixels that do not count."""
    for split in ('train', 'val'):
        _write_pair(data, size_hw, split=split)
    assert tool(*CHECK_ALL)[0] == 0
    assert tool(*TRAIN)[0] == 0
    assert tool('tools/test.py', 'w/iter_2.pth', '--eval', 'mIoU', '--out-dir', 'r')[0] == 0
    with open('r/per_image.csv', newline='') as file:
        counted = {row['img_path'][-10:]: row['labelled_pixels'] for row in csv.DictReader(file)}
    assert counted['21_sat.tif'] == str(size_hw[0] * size_hw[1])
    assert counted['/7_sat.tif'] == str(SIZE_HW[0] * SIZE_HW[1])


@pytest.mark.parametrize('content', ['', '\n\n'])
def test_an_empty_list_says_what_belongs_into_it(tool, data, content):
    (data / 'train.txt').write_text(content)
    option = "\ntrain_dataloader['dataset']['ann_file'] = 'train.txt'"
    for words in (CHECK, TRAIN):
        code, said = tool(*words, extra=option)
        assert code == 3
        assert re.search(r'list .*train\.txt names none; it holds one name without suffix', said)


def test_a_tiff_cut_off_before_its_header_stops_both_tools(tool, data):
    content = (data / IMAGE).read_bytes()  # OpenCV writes the header last
    (data / IMAGE).write_bytes(content[: len(content) // 2])
    for words in (CHECK, TRAIN):
        code, said = tool(*words)
        assert code == 3
        assert re.search(r'21_sat\.tif: its \d+ bytes cannot be decoded: cut off', said), said
        assert 'Iter(train)' not in said


@pytest.mark.parametrize('compression', [None, 'packbits'])
def test_a_tiff_cut_off_in_its_pixels_never_becomes_half_an_image(tool, data, compression):
    pixels = np.random.default_rng(0).integers(1, 256, (*SIZE_HW, 3), np.uint8)
    Image.fromarray(pixels).save(data / IMAGE, compression=compression)
    content = (data / IMAGE).read_bytes()
    (data / IMAGE).write_bytes(content[: int(0.9 * len(content))])
    for words in (CHECK_ALL, TRAIN):
        code, said = tool(*words)
        assert code == 3
        assert re.search(r'21_sat\.tif: its \d+ bytes cannot be decoded: cut off', said), said


@pytest.mark.parametrize('bands', [5, 8, 13])
@pytest.mark.parametrize('bits', [8, 16])
def test_too_many_bands_are_refused_with_a_way_to_choose_three(tool, data, bands, bits):
    write_tiff(data / IMAGE, np.ones((*SIZE_HW, bands), f'uint{bits}'))
    for words in (CHECK, CHECK_ALL, TRAIN):
        code, said = tool(*words)
        assert code == 3
        assert re.search(rf'21_sat\.tif: it has {bands} bands, at most 4 .*gdal_translate', said)
        assert 'Iter(train)' not in said


@pytest.mark.parametrize(
    ('bands', 'bits', 'lost'),
    [
        (4, 8, ['4 bands: read without the last 1']),
        (3, 16, ['more than 8 bits a channel: read as 8 bits']),
        (4, 16, ['more than 8 bits a channel', '4 bands: read without the last 1']),
        (1, 16, ['more than 8 bits a channel']),
        (1, 8, []),
    ],
)
def test_what_is_lost_of_a_tiff_is_noted_and_training_goes_on(tool, data, bands, bits, lost):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (*SIZE_HW, bands), f'uint{bits}')
    write_tiff(data / IMAGE, pixels)
    for words in (CHECK, CHECK_ALL, TRAIN):
        code, said = tool(*words)
        assert code == 0
        for loss in lost:
            assert f'note: image with {loss}' in said, said
        assert ('image with' in said) == bool(lost)
