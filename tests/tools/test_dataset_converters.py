"""The official downloads of DeepGlobe and Inria Aerial become the folders of the configurations."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from isda_suite.registry import DATASETS
from tests.data.deepglobe_fake import make as deepglobe
from tests.data.inria_fake import make as inria
from tests.tools.in_process import call_tool

LISTS = {'train': ('7', '21'), 'val': ('303',), 'test': ('4004',)}
PIPELINE = [
    {'type': 'isda_suite.LoadImage'},
    {'type': 'isda_suite.LoadSegLabels'},
    {'type': 'PackSegInputs'},
]


@pytest.fixture
def download(tmp_path):
    """Return a folder as DeepGlobe's owners publish it."""
    for index, name in enumerate(deepglobe.NAMES):
        label = deepglobe.ids(index)
        deepglobe.write_image(tmp_path / f'down/{name}_sat.jpg', label)
        deepglobe.write_mask(tmp_path / f'down/{name}_mask.png', deepglobe.PALETTE[label])
    return tmp_path / 'down'


@pytest.fixture
def lists(tmp_path):
    (tmp_path / 'lists').mkdir()
    for split, names in LISTS.items():
        (tmp_path / f'lists/{split}.txt').write_text('\n'.join(names))
    return tmp_path / 'lists'


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys, lists):
    """Run a converter on `down`; returns its exit code and all it said."""

    def run(*options, script='deepglobe', src='down', use_lists=True):
        monkeypatch.chdir(tmp_path)
        named = ('--lists', lists) if use_lists else ()
        words = [src, 'out', '--workers', '2', *named, *options]
        code = call_tool(monkeypatch, f'tools/dataset_converters/{script}.py', *words)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.out + captured.err

    return run


def labels_of(config):
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build({**config, 'pipeline': PIPELINE})
    return [sample['data_samples'].gt_sem_seg.data[0].numpy() for sample in dataset]


def test_deepglobe_is_read_by_its_configuration_afterwards(convert, download, tmp_path):
    code, said = convert()
    assert code == 0 and '4  pairs written' in said and '2  names in train' in said
    found = {split: labels_of(deepglobe.config(tmp_path / 'out', split)) for split in LISTS}
    assert [len(labels) for labels in found.values()] == [2, 1, 1]
    assert np.array_equal(found['val'][0], deepglobe.ids(2))
    assert np.array_equal(found['test'][0], deepglobe.ids(3))


def test_inria_is_read_by_its_configuration_afterwards(convert, tmp_path):
    (inria.make(tmp_path / 'down') / 'official').rename(tmp_path / 'down/train')
    (tmp_path / 'lists/train.txt').write_text('\n'.join(inria.NAMES))
    for split in ('val', 'test'):
        (tmp_path / f'lists/{split}.txt').unlink()
    code, said = convert(script='inria_aerial')
    assert code == 0 and '3  pairs written' in said
    labels = labels_of(inria.config(tmp_path / 'out'))
    assert all(np.array_equal(label, inria.ids(i)) for i, label in enumerate(labels))
    assert 'image of another size than the original, (h, w) = (5000, 5000)' in said


@pytest.mark.parametrize('how', ['link', 'copy'])
def test_images_are_linked_or_copied_byte_by_byte(convert, download, tmp_path, how):
    assert convert('--images', how)[0] == 0
    image = tmp_path / 'out/img_dir/train/7_sat.jpg'
    assert image.is_symlink() == (how == 'link')
    assert image.read_bytes() == (download / '7_sat.jpg').read_bytes()


def test_a_second_run_does_only_what_is_missing(convert, download, tmp_path):
    convert()
    kept, lost = (tmp_path / f'out/rgb2id/train/{name}_mask.png' for name in ('7', '21'))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    code, said = convert()
    assert code == 0 and '1  pairs written' in said and '3  pairs that were there' in said
    assert lost.is_file() and kept.stat().st_mtime_ns == before


def test_a_copy_takes_the_place_of_a_link_whose_image_is_gone(convert, download, tmp_path):
    convert()
    download.rename(tmp_path / 'moved')
    code, said = convert('--images', 'copy', src='moved')
    assert code == 0 and '4  pairs written' in said
    assert not (tmp_path / 'out/img_dir/val/303_sat.jpg').is_symlink()
    assert not download.exists()


def test_everything_wrong_is_listed_at_once_and_the_rest_is_written(convert, download, tmp_path):
    (tmp_path / 'lists/test.txt').write_text('4004\n5005\n6006\n')
    deepglobe.write_mask(download / '7_mask.png', deepglobe.PALETTE[deepglobe.ids(0)][:40])
    deepglobe.write_mask(download / '21_mask.png', deepglobe.ids(1))
    strange = deepglobe.PALETTE[deepglobe.ids(2)].copy()
    strange[:2, :3] = 9
    deepglobe.write_mask(download / '303_mask.png', strange)
    deepglobe.write_image(download / '8_sat.jpg', deepglobe.ids(0))
    code, said = convert()
    assert code == 3
    for part in (
        '2  error: image missing in the download\n             test: 5005, 6006',
        '2  error: mask missing in the download',
        '7_mask.png: the label is (h, w) = (40, 64), its image',
        '21_mask.png: raw_masks=True expects RGB colours, this mask has one channel',
        '1  note: mask with colours of no class: they become class 0',
        '303_mask.png: 6 pixels',
        'image that no list names: left out',
        '2  pairs written',
    ):
        assert part in said, said
    assert not (tmp_path / 'out/img_dir/train').exists()
    (label,) = labels_of(deepglobe.config(tmp_path / 'out', 'val'))
    assert (label[:2, :3] == 0).all() and np.array_equal(label[2:], deepglobe.ids(2)[2:])


@pytest.mark.parametrize('name', ['7_sat.jpg', '7_mask.png'])
def test_a_broken_file_is_named(convert, download, name):
    (download / name).write_bytes((download / name).read_bytes()[:30])
    code, said = convert()
    assert code == 3 and f'{name}: its 30 bytes cannot be decoded' in said
    assert '3  pairs written' in said


def test_a_colour_of_no_class_in_an_inria_mask_is_an_error(convert, tmp_path):
    (inria.make(tmp_path / 'down') / 'official').rename(tmp_path / 'down/train')
    cv2.imwrite(str(tmp_path / 'down/train/gt/austin1.tif'), inria.ids(0) * 7)
    (tmp_path / 'lists/train.txt').write_text('austin1')
    code, said = convert(script='inria_aerial')
    assert code == 3 and 'austin1.tif: 320 pixels have a colour of no class' in said


def test_without_lists_the_published_ones_count(convert, download):
    code, said = convert(use_lists=False)
    assert code == 3
    for count, split in ((454, 'train'), (207, 'val'), (142, 'test')):
        assert f'{count}  names in {split}' in said
    assert '803  error: image missing' in said


@pytest.mark.parametrize(
    ('change', 'code', 'message'),
    [
        (lambda down: down.rename('away'), 2, 'there is no down'),
        (lambda down: [path.unlink() for path in down.iterdir()], 3, 'ID_sat.jpg and ID_mask.png'),
    ],
)
def test_another_folder_is_answered_with_what_is_expected(convert, download, change, code, message):
    import os

    os.chdir(download.parent)
    change(download)
    found, said = convert()
    assert (found, message in said) == (code, True), said


def test_wrong_use_answers_two(convert, download, tmp_path):
    for option, message in (('--workers=0', 'at least 1'), ('--lists=absent', 'absent: expected')):
        code, said = convert(option)
        assert (code, message in said) == (2, True), said


def test_a_full_disk_leaves_nothing_under_its_name(convert, download, tmp_path, monkeypatch):
    from isda_suite.apis.downloads import dataset_layouts

    def fails(path, ids):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(dataset_layouts, '_write_label', fails)
        with pytest.raises(AssertionError):  # the traceback of an unexpected error
            convert()
    assert not list((tmp_path / 'out').rglob('*.*'))


def test_what_a_killed_run_left_half_written_is_removed(convert, download, tmp_path):
    left = tmp_path / 'out/img_dir/train/7_sat.jpg.tmp-12'
    left.parent.mkdir(parents=True)
    left.write_bytes(b'half')
    assert convert('--images', 'copy')[0] == 0
    assert sorted(path.name for path in left.parent.iterdir()) == ['21_sat.jpg', '7_sat.jpg']
