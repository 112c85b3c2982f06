"""Wrong images and labels of semantic segmentation through the real tools.

One fault a row: what `check_dataset.py` says of it and what `train.py` does. Everything runs in
this process on a toy configuration of mmseg's own segmentor.
"""

import re

import cv2
import numpy as np
import pytest

from tests.data.deepglobe_fake.make import PALETTE, SIZE_HW, ids, make, write_mask
from tests.datasets.test_image_file import jpeg_turned_by_exif
from tests.reliability.segmentor_tools import caller

IMAGE = 'img_dir/train/21_sat.jpg'
LABEL = 'rgb2id/train/21_mask.png'
STOCK = """
for _loader in (train_dataloader, val_dataloader):
    _loader['dataset'].update(
        type='BaseSegDataset', img_suffix='_sat.jpg', seg_map_suffix='_mask.png',
        metainfo=dict(classes=tuple('abcdefg')))
for _pipeline in (train_pipeline, test_pipeline):
    _pipeline[1].update(num_classes=7)
"""


@pytest.fixture
def data(tmp_path):
    return make(tmp_path / 'data')


@pytest.fixture
def tool(tmp_path, data, monkeypatch, capsys):
    """Run a tool on the toy configuration; returns its exit code and all it said."""
    return caller(tmp_path, data, monkeypatch, capsys)


def _change_label(data, change):
    write_mask(data / LABEL, change(ids(1)))


def _no_image_of_the_suffix(data):
    for path in (data / 'img_dir/train').iterdir():
        path.rename(path.with_suffix('.png'))


def _no_label_of_the_suffix(data):
    for path in (data / 'rgb2id/train').iterdir():
        path.rename(path.with_suffix('.tif'))


def _image_without_label(data):
    (data / LABEL).unlink()


def _colours_for_ids(data):
    write_mask(data / LABEL, PALETTE[ids(1)])


def _label_of_another_size(data):
    _change_label(data, lambda label: label[:, :60])


def _empty_image(data):
    (data / IMAGE).write_bytes(b'')


def _image_cut_in_its_header(data):
    (data / IMAGE).write_bytes((data / IMAGE).read_bytes()[:30])


def _empty_label(data):
    (data / LABEL).write_bytes(b'')


def _turned_image(data):
    """EXIF asks for a turn that neither image nor label gets, so the sizes do not fit."""
    (data / IMAGE).write_bytes(jpeg_turned_by_exif(SIZE_HW[1], SIZE_HW[0]))


@pytest.mark.parametrize('extra', ['', STOCK], ids=['ours', 'stock'])
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_no_image_of_the_suffix, r'0 of 4 images left: .*/train for \*_sat\.jpg; .* 4 \*\.png'),
        (_no_label_of_the_suffix, r'no image has a label: .*for \*_mask\.png; .* 4 \*\.tif'),
        (_image_without_label, r'image without a label\s+no .*21_mask\.png'),
        (_colours_for_ids, r'21_mask\.png: .* found 3 channels.*raw_masks=True'),
        (_label_of_another_size, r'21_mask\.png: .* \(48, 60\), its image .*21_sat\.jpg is \(48, '),
        (_empty_image, r'21_sat\.jpg: the file is empty'),
        (_image_cut_in_its_header, r'21_sat\.jpg: its 30 bytes cannot be decoded: cut off'),
        (_empty_label, r'21_mask\.png: the file is empty'),
        (_turned_image, r'21_mask\.png: the label is .* \(48, 64\), its image .* is \(64, 48\)'),
    ],
)
def test_headers_and_names_stop_both_tools_before_the_start(tool, data, spoil, message, extra):
    spoil(data)
    for script in ('tools/check_dataset.py', 'tools/train.py'):
        code, said = tool(script, extra=extra)
        assert code == 3
        assert re.search(message, said), said
        assert 'Iter(train)' not in said


def _value_outside(data):
    _change_label(data, lambda label: np.where(label == 1, 7, label))


def _sixteen_bits(data):
    _change_label(data, lambda label: label.astype(np.uint16) + 599)


def _cut_label(data):
    content = (data / LABEL).read_bytes()
    (data / LABEL).write_bytes(content[:-30])


@pytest.mark.parametrize('extra', ['', STOCK], ids=['ours', 'stock'])
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_value_outside, r'21_mask\.png: uint8 label with values 7; expected 0\.\.6 or 255'),
        (_sixteen_bits, r'21_mask\.png: uint16 label with values 600, 602, 604; expected 0\.\.6'),
        (_cut_label, r'21_mask\.png: its \d+ bytes cannot be decoded'),
    ],
)
def test_pixels_stop_training_when_read_and_the_check_when_asked(tool, data, spoil, message, extra):
    spoil(data)
    for arguments in (('tools/check_dataset.py', '--images'), ('tools/train.py',)):
        code, said = tool(*arguments, extra=extra)
        assert code == 3
        assert re.search(message, said), said


def test_the_error_of_a_worker_keeps_message_and_code(tool, data):
    _value_outside(data)
    code, said = tool('tools/train.py', '--cfg-options', 'train_dataloader.num_workers=1')
    assert code == 3
    assert 'label with values 7' in said


def test_a_list_that_names_absent_files(tool, data):
    (data / 'train.txt').write_text('7\n21\n22\n')
    option = "train_dataloader['dataset']['ann_file'] = 'train.txt'"
    for script in ('tools/check_dataset.py', 'tools/train.py'):
        code, said = tool(script, extra=option)
        assert code == 3
        assert re.search(r'no .*img_dir/train/22_sat\.jpg, named in .*train\.txt', said)


@pytest.mark.parametrize('extra', ['', STOCK], ids=['ours', 'stock'])
def test_a_missing_folder_is_named_with_its_option(tool, extra):
    folder = "\ntrain_dataloader['dataset']['data_prefix']['seg_map_path'] = 'nowhere'"
    for script in ('tools/check_dataset.py', 'tools/train.py'):
        code, said = tool(script, extra=extra + folder)
        assert code == 2
        assert 'seg_map_path' in said and 'data/nowhere' in said


def test_a_class_that_the_data_do_not_have(tool):
    extra = "\ntrain_dataloader['dataset']['metainfo'] = dict(classes=('watre', 'barren'))"
    for script in ('tools/check_dataset.py', 'tools/train.py'):
        code, said = tool(script, extra=extra)
        assert code == 3
        assert "class 'watre' of the config is none of DeepGlobeDataset, nearest: water" in said


def test_deep_and_transparent_images_are_warned_about(tool, data):
    for name in ('21', '303'):
        (data / f'img_dir/train/{name}_sat.jpg').unlink()
    rng = np.random.default_rng(0)
    for name, pixels in (
        ('21', rng.integers(0, 2**16, (*SIZE_HW, 3), np.uint16)),
        ('303', rng.integers(0, 2**8, (*SIZE_HW, 4), np.uint8)),
    ):
        # The suffix says JPEG; what decides is the content.
        coded = cv2.imencode('.png', pixels)[1].tobytes()
        (data / f'img_dir/train/{name}_sat.jpg').write_bytes(coded)
    code, said = tool('tools/train.py')
    assert code == 0
    assert re.search(r'1  note: image with more than 8 bits a channel: read as 8 bits', said)
    assert re.search(r'1  note: image with transparency: read without it', said)
    assert len(re.findall(r'WARNING.*_sat\.jpg: image with', said)) == 1


def test_a_batch_without_a_labelled_pixel_trains(tool, data, tmp_path):
    for path in (data / 'rgb2id/train').iterdir():
        write_mask(path, np.full(SIZE_HW, 255, np.uint8))
    code, said = tool('tools/check_dataset.py', '--images')
    assert (code, 'note: label whose pixels are all ignored' in said) == (0, True)
    assert tool('tools/train.py')[0] == 0
    assert (tmp_path / 'w/iter_2.pth').is_file()


def test_bad_labels_can_be_skipped(tool, data):
    (data / LABEL).write_bytes((data / LABEL).read_bytes()[:-30])
    skip = "\ntrain_dataloader['dataset']['bad_images'] = 'skip'"
    code, said = tool('tools/train.py', extra=skip)
    assert code == 0
    assert re.search(r'skipped: .*21_mask\.png: its \d+ bytes', said)


def test_train_test_and_browse_work_end_to_end(tool, tmp_path):
    code, _ = tool('tools/train.py')
    assert code == 0
    for words in (['mIoU'], ['mIoU', 'mFscore']):
        code, said = tool('tools/test.py', 'w/iter_2.pth', '--eval', *words)
        assert code == 0
        assert re.search(r'^mIoU +\d', said, re.MULTILINE), said
    code, said = tool('tools/test.py', 'w/iter_2.pth', '--show-dir', 'shown')
    assert code == 0
    assert len(list((tmp_path / 'shown').iterdir())) == 4
    height, width = cv2.imread(str(tmp_path / 'shown/21_sat.png')).shape[:2]
    assert width > 3 * 384 and height > 384  # image, labels, prediction, each enlarged
    assert tool('tools/test.py', 'w/iter_2.pth', '--eval', 'mIoU', '--out-dir', 'report')[0] == 0
    names = ['confusion_matrix.csv', 'confusion_matrix.png', 'per_image.csv']
    assert sorted(path.name for path in (tmp_path / 'report').iterdir()) == names
    code, said = tool('tools/browse_dataset.py', '--split', 'val', '--output-dir', 'b')
    assert (code, '4 samples drawn' in said) == (0, True)


def test_a_wrong_label_stops_an_evaluation_too(tool, data):
    assert tool('tools/train.py')[0] == 0
    write_mask(data / 'rgb2id/val/21_mask.png', ids(1) + 5)
    skip = "\ntest_dataloader['dataset']['bad_images'] = 'skip'"
    code, said = tool('tools/test.py', 'w/iter_2.pth', extra=skip)
    assert code == 3
    assert re.search(r'val/21_mask\.png: uint8 label with values 8, 10; expected 0\.\.6', said)


def test_a_pipeline_without_labels_stops_where_a_metric_needs_them(tool):
    """Before the model is built, and before a training that would end at its first validation."""
    assert tool('tools/train.py')[0] == 0
    message = r'dataset\.pipeline loads no labels, needed by .*IoUMetric: add .*LoadSegLabels'
    test = ('tools/test.py', 'w/iter_2.pth')
    for words in ((*test, '--eval', 'mIoU'), test, ('tools/train.py',)):
        code, said = tool(*words, extra='del test_pipeline[1]')
        assert code == 2
        assert re.search(message, said), said
    metric = "\ntest_evaluator = dict(type='isda_suite.IoUMetric')"
    code, said = tool(*test, '--format-only', extra='del test_pipeline[1]' + metric)
    assert code == 0, said


def test_data_that_name_no_labels_cannot_be_evaluated(tool):
    assert tool('tools/train.py')[0] == 0
    extra = "\ntest_dataloader['dataset']['data_prefix'].pop('seg_map_path')"
    code, said = tool('tools/test.py', 'w/iter_2.pth', extra=extra)
    assert code == 3
    assert re.search(r'_sat\.jpg: the data set names no label image .* seg_map_path to', said)
