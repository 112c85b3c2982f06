"""The check of images and label images: what is counted, what stops, what is only noted."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from isda_suite.datasets import checks, segmentation_checks
from isda_suite.datasets.checks import inspect_dataset
from tests.data.deepglobe_fake.make import PALETTE, SIZE_HW, config, ids, make, write_mask


@pytest.fixture
def root(tmp_path):
    return make(tmp_path, parts=('train',))


@pytest.fixture
def check(root):
    """Give a function that checks the fake data set and returns its report."""

    def check(images=False, **changes):
        with DefaultScope.overwrite_default_scope('mmseg'):
            (report,) = inspect_dataset(config(root, **changes), images=images)
        return report

    return check


def stock(**changes):
    """Return the changes that make mmseg's own data set read the same files."""
    return {
        'type': 'BaseSegDataset',
        'img_suffix': '_sat.jpg',
        'seg_map_suffix': '_mask.png',
        'metainfo': {'classes': tuple('abcdefg')},
        **changes,
    }


@pytest.mark.parametrize('changes', [{}, {'raw': True}, stock()], ids=['ids', 'colours', 'stock'])
def test_a_sound_data_set_gives_counts_and_nothing_else(check, changes):
    report = check(images=True, **changes)
    assert report.facts == {'images': 4, 'labels': 4, 'images decoded': 4}
    assert not report.findings


def test_no_pixel_is_decoded_unless_asked(check, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('decoded')

    monkeypatch.setattr(segmentation_checks, 'read_image', refuse)
    monkeypatch.setattr(checks, 'check_images', refuse)
    assert not check().findings


def test_headers_are_read_of_a_part_of_a_large_set(check, root, monkeypatch):
    for index in range(196):
        (root / f'img_dir/train/a{index}_sat.jpg').symlink_to(root / 'img_dir/train/7_sat.jpg')
        (root / f'rgb2id/train/a{index}_mask.png').symlink_to(root / 'rgb2id/train/7_mask.png')
    read = []
    header = segmentation_checks.read_header
    monkeypatch.setattr(
        segmentation_checks, 'read_header', lambda path: read.append(path) or header(path)
    )
    assert check().facts['images'] == 200
    images = [path for path in read if path.endswith('.jpg')]
    assert len(images) == 50
    assert {'a', '2', '3', '4', '7'} & {path.rpartition('/')[2][0] for path in images} >= {'a', '2'}


def test_labels_without_an_image_are_noted(check, root):
    (root / 'img_dir/train/7_sat.jpg').unlink()
    report = check()
    assert not report.fatal
    assert report.findings['label without an image: not used'].examples[0].endswith('7_mask.png')


def test_a_list_leaves_the_other_files_alone_but_tells_repetitions(check, root):
    (root / 'list.txt').write_text('7\n21\n7\n')
    report = check(ann_file='list.txt')
    assert not report.fatal
    assert report.facts == {'images': 3, 'labels': 2}
    assert list(report.findings) == ['image listed twice: used twice']
    (root / 'list.txt').write_text('\n')
    assert 'list.txt names none' in check(ann_file='list.txt').table()


def test_a_list_that_leads_out_of_the_data_is_refused_unless_allowed(check, root):
    outside = root.parent / f'{root.name}-outside'
    outside.mkdir()
    image = root / 'img_dir/train/7_sat.jpg'
    (outside / 'a_sat.jpg').write_bytes(image.read_bytes())
    (root / 'list.txt').write_text(f'7\n../../../{outside.name}/a\n')
    report = check(ann_file='list.txt', test_mode=True)
    assert report.fatal and 'points out of' in report.table() and 'allow_outside' in report.table()
    assert 'points out of' not in check(ann_file='list.txt', allow_outside=True).table()


def test_a_test_set_may_have_no_labels_but_not_some(check, root):
    (root / 'rgb2id/train/7_mask.png').unlink()
    assert check(test_mode=True).fatal
    for path in (root / 'rgb2id/train').iterdir():
        path.unlink()
    report = check(test_mode=True, images=True)
    assert not report.fatal
    assert 'the folder holds no files' in report.table()
    assert report.facts['images decoded'] == 4
    assert check().fatal


def test_training_without_a_label_folder_is_refused(check):
    prefix = {'img_path': 'img_dir/train'}
    assert 'no seg_map_path' in check(data_prefix=prefix).table()
    assert not check(data_prefix=prefix, test_mode=True).findings
    assert 'no img_path' in check(data_prefix={'img': 'img_dir/train'}).table()


def test_a_missing_list_or_folder_is_a_wrong_path(check):
    with pytest.raises(FileNotFoundError, match=r'ann_file: there is no .*absent\.txt'):
        check(ann_file='absent.txt')
    with pytest.raises(
        FileNotFoundError, match=r'data_prefix\.img_path: there is no .*img_dir/val'
    ):
        check(part='val')


def test_files_on_another_machine_are_not_looked_for(check):
    report = check(data_prefix={'img_path': 's3://bucket/a', 'seg_map_path': 's3://bucket/b'})
    assert not report.fatal
    assert 'not on this disk' in report.table()


def test_stock_data_without_classes_says_what_is_not_checked(check):
    assert 'values of labels are not checked' in check(**stock(metainfo={})).table()


def test_colours_of_no_class_are_counted_by_image(check, root):
    mask = PALETTE[ids(0)].copy()
    mask[0, :5] = 1
    write_mask(root / 'rgb/train/7_mask.png', mask)
    report = check(images=True, raw=True)
    (finding,) = report.findings.values()
    assert (finding.count, finding.fatal) == (1, False)
    assert '5 pixels' in finding.examples[0]


def test_deep_labels_are_noted_before_their_values_are_known(check, root):
    write_mask(root / 'rgb2id/train/7_mask.png', ids(0).astype(np.uint16))
    report = check(images=True)
    assert not report.fatal
    assert 'label with more than 8 bits' in report.table()


def test_every_wrong_file_is_in_the_table(check, root):
    cv2.imwrite(str(root / 'img_dir/train/7_sat.jpg'), np.zeros((10, 10, 3), np.uint8))
    (root / 'img_dir/train/21_sat.jpg').write_text('<html>')
    (root / 'rgb2id/train/303_mask.png').unlink()
    write_mask(root / 'rgb2id/train/4004_mask.png', np.zeros((*SIZE_HW, 3), np.uint8))
    titles = {title for title, finding in check().findings.items() if finding.fatal}
    assert titles == {
        'label of another size than its image',
        'image broken',
        'image without a label',
        'label that does not hold the ids of the classes',
    }
