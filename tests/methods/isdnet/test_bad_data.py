"""One fault a row in the data of ISDNet's own configurations, through the real tools.

What each of the checks can find is tested on a toy model in tests/reliability.
"""

import re

import cv2
import numpy as np
import pytest

from isda_suite.resources import resource_root
from tests.tools.in_process import call_tool

SIZE_HW = (40, 48)
# Configuration; one image of a part and its label.
LAYOUTS = {
    'deepglobe': (
        'isdnet_1224x1224_80k_deepglobe.py',
        'img_dir/{part}/7_sat.jpg',
        'rgb2id/{part}/7_mask.png',
    ),
    'inria': (
        'isdnet_r18_4xb1-40k_inria.py',
        'imgs/{part}/kitsap7_sat.tif',
        'labels/{part}/kitsap7_mask.png',
    ),
    'cityscapes': (
        'isdnet_r18_4xb2-80k_cityscapes.py',
        'leftImg8bit/{part}/ulm/7_leftImg8bit.png',
        'gtFine/{part}/ulm/7_gtFine_labelTrainIds.png',
    ),
    'custom': ('isdnet_r50_custom_seg.py', 'images/{part}/7.jpg', 'labels/{part}/7.png'),
}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    """Write sound data; returns the configuration, and the image and the label to spoil."""
    name, *patterns = LAYOUTS[request.param]
    image = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
    label = np.indices(SIZE_HW)[1].astype(np.uint8) // 24
    for part in ('train', 'val', 'test'):
        for pattern, pixels in zip(patterns, (image, label), strict=True):
            _write(tmp_path / pattern.format(part=part), pixels)
    config = resource_root() / 'configs/isdnet' / name
    return config, *(tmp_path / pattern.format(part='train') for pattern in patterns)


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def tool(layout, tmp_path, monkeypatch, capsys):
    """Run a tool on the configuration; returns its exit code and all it said."""

    def run(script, *options):
        monkeypatch.chdir(tmp_path)
        set_root = ('--cfg-options', f'data_root={tmp_path}/')
        code = call_tool(monkeypatch, script, layout[0], *options, *set_root)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.out + captured.err

    return run


def _no_label(image, label):
    (label.with_name(f'x{label.name}')).write_bytes(label.read_bytes())
    label.unlink()


def _other_suffix(image, label):
    image.rename(image.with_suffix('.bmp'))


def _other_size(image, label):
    _write(label, np.zeros((SIZE_HW[0], SIZE_HW[1] - 4), np.uint8))


def _colours(image, label):
    _write(label, np.zeros((*SIZE_HW, 3), np.uint8))


def _cut_off(image, label):
    image.write_bytes(image.read_bytes()[:40])


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_no_label, r'no image has a label: looked in .*suffix'),
        (_other_suffix, r'0 of 1 images left: looked in .* \*\.bmp'),
        (_other_size, r'the label is .*\(40, 44\), its image .* is \(40, 48\)'),
        (_colours, r'found 3 channels.*raw_masks=True'),
        (_cut_off, r'its 40 bytes cannot be decoded: cut off'),
    ],
)
def test_names_and_headers_stop_both_tools_before_the_start(layout, tool, spoil, message):
    spoil(*layout[1:])
    for script in ('tools/check_dataset.py', 'tools/train.py'):
        code, said = tool(script)
        assert code == 3
        assert re.search(message, said), said


def _no_class(image, label):
    _write(label, np.full(SIZE_HW, 77, np.uint8))


def _cut_in_its_pixels(image, label):
    image.write_bytes(image.read_bytes()[: -len(image.read_bytes()) // 4])


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_no_class, r'label with values 77; expected 0\.\.\d+ or 255'),
        (_cut_in_its_pixels, r'its \d+ bytes cannot be decoded'),
    ],
)
def test_pixels_stop_the_check_that_reads_them(layout, tool, spoil, message):
    spoil(*layout[1:])
    code, said = tool('tools/check_dataset.py', '--images')
    assert code == 3
    assert re.search(message, said), said


def test_an_empty_list_says_what_belongs_into_it(tool, tmp_path):
    (tmp_path / 'names.txt').touch()
    for script in ('tools/check_dataset.py', 'tools/train.py'):
        code, said = tool(script, '--cfg-options', '+train_dataloader.dataset.ann_file=names.txt')
        assert code == 3
        assert re.search(r'list .*names\.txt names none; it holds one name', said), said


def test_sound_data_pass(tool):
    code, said = tool('tools/check_dataset.py', '--images')
    assert code == 0, said
