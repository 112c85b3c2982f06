"""DeepGlobe: item, length, missing, corrupt, wrong size, drawing; colours, lists, classes."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from isda_suite.datasets.errors import DataError
from isda_suite.registry import DATASETS
from isda_suite.visualization import draw_samples
from tests.data.deepglobe_fake.make import NAMES, PALETTE, SIZE_HW, config, ids, make, write_mask

PIPELINE = [
    {'type': 'isda_suite.LoadImage'},
    {'type': 'isda_suite.LoadSegLabels'},
    {'type': 'PackSegInputs'},
]
# Samples come in the order of their paths.
ORDER = sorted(range(len(NAMES)), key=lambda index: f'{NAMES[index]}_sat.jpg')


@pytest.fixture
def root(tmp_path):
    return make(tmp_path, parts=('train',))


@pytest.fixture
def build(root):
    def build(**changes):
        with DefaultScope.overwrite_default_scope('mmseg'):
            return DATASETS.build(config(root, pipeline=PIPELINE, **changes))

    return build


def label_of(sample):
    return sample['data_samples'].gt_sem_seg.data[0].numpy()


@pytest.mark.parametrize('raw', [False, True])
def test_an_item_has_the_ids_of_its_mask(build, raw):
    dataset = build(raw=raw)
    for position, index in enumerate(ORDER):
        sample = dataset[position]
        assert sample['inputs'].shape == (3, *SIZE_HW)
        assert np.array_equal(label_of(sample), ids(index))


def test_the_length_is_that_of_the_folder_or_of_the_list(build, root):
    assert len(build()) == len(NAMES)
    (root / 'few.txt').write_text('21\n303\n\n')
    few = build(ann_file='few.txt')
    assert [info['img_path'].rpartition('/')[2] for info in map(few.get_data_info, range(2))] == [
        '21_sat.jpg',
        '303_sat.jpg',
    ]
    assert len(few) == 2


def test_labels_stay_bytes_until_they_are_packed(build):
    dataset = build()
    loaded = dataset.pipeline.transforms[1](dataset.get_data_info(0))
    assert loaded['gt_seg_map'].dtype == np.uint8


@pytest.mark.parametrize('folder, end', [('img_dir', 'sat.jpg'), ('rgb2id', 'mask.png')])
def test_a_missing_file_is_named(build, root, folder, end):
    dataset = build()
    (root / folder / f'train/7_{end}').unlink()
    with pytest.raises(DataError, match=rf'no image .*7_{end}'):
        dataset[ORDER.index(0)]


@pytest.mark.parametrize('folder, end', [('img_dir', 'sat.jpg'), ('rgb2id', 'mask.png')])
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda data: b'', r'empty \(0 bytes\)'),
        (lambda data: data[: len(data) // 2], 'cut off, or no image'),
        (lambda data: b'<!DOCTYPE html>', 'text, not an image'),
    ],
)
def test_a_corrupt_file_says_what_it_is(build, root, folder, end, spoil, message):
    path = root / folder / f'train/7_{end}'
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf'7_{end}: .*{message}'):
        build()[ORDER.index(0)]


def test_a_label_of_another_size_is_refused_with_both_files(build, root):
    write_mask(root / 'rgb2id/train/7_mask.png', ids(0)[:40])
    with pytest.raises(
        DataError, match=r'7_mask\.png: the label is .*\(40, 64\), its image .*7_sat\.jpg is \(48, '
    ):
        build()[ORDER.index(0)]


def test_bad_files_can_be_skipped_until_there_are_too_many(build, root):
    dataset = build(bad_images='skip')
    (root / 'rgb2id/train/7_mask.png').write_bytes(b'')
    assert dataset[ORDER.index(0)]['data_samples'].img_path.rpartition('/')[2] != '7_sat.jpg'
    (root / 'img_dir/train/21_sat.jpg').write_bytes(b'')
    with pytest.raises(DataError, match=r'2 of 4 images cannot be read, more than 0\.1%'):
        for index in range(4):
            dataset[index]
    with pytest.raises(DataError, match='empty'):
        build(bad_images='skip', test_mode=True)[ORDER.index(0)]


def test_samples_can_be_drawn(build, tmp_path):
    written = draw_samples(build(), tmp_path / 'out', progress=False)
    assert len(written) == len(NAMES) + 1
    picture = cv2.imread(str(written[ORDER.index(0)]))
    # Below the caption: the middle stripe is class 2, yellow, over an image of dark yellow.
    blue, green, red = picture[300, 250].astype(int)
    assert min(red, green) > 150 and blue < 60


def test_colours_of_no_class_become_unknown_and_are_warned_about_once(build, root, monkeypatch):
    said = []
    monkeypatch.setattr(
        'isda_suite.datasets.counted_warning.print_log', lambda text, *a, **k: said.append(text)
    )
    mask = PALETTE[ids(1)].copy()
    mask[:2, :3] = (0, 254, 255)
    for name in ('21', '303'):
        write_mask(root / f'rgb/train/{name}_mask.png', mask)
    dataset = build(raw=True)
    labels = [label_of(dataset[ORDER.index(index)]) for index in (1, 2)]
    assert (labels[0][:2, :3] == 0).all() and np.array_equal(labels[0][2:], ids(1)[2:])
    assert len(said) == 1
    assert '21_mask.png: 6 pixels have a colour of no class: read as class 0' in said[0]


def test_ids_are_not_taken_for_colours(build, root):
    write_mask(root / 'rgb/train/7_mask.png', ids(0))
    with pytest.raises(DataError, match='one channel; if it holds class ids, leave raw_masks out'):
        build(raw=True)[ORDER.index(0)]


def test_classes_of_the_config_are_found_by_name_and_the_others_ignored(build):
    dataset = build(metainfo={'classes': ('barren', 'agriculture')})
    expected = np.full(SIZE_HW, 255, np.uint8)
    expected[ids(0) == 2] = 1
    assert np.array_equal(label_of(dataset[ORDER.index(0)]), expected)
    with pytest.raises(DataError, match=r"class 'urbn' of the config .* nearest: urban"):
        build(metainfo={'classes': ('urbn',)})


def test_the_published_split_is_whole(build):
    parts = {}
    for split in ('train', 'val', 'test'):
        dataset = build(split=split, lazy_init=True)
        parts[split] = {info['img_path'] for info in dataset.load_data_list()}
    assert {split: len(names) for split, names in parts.items()} == {
        'train': 454,
        'val': 207,
        'test': 142,
    }
    assert len(set.union(*parts.values())) == 803
    with pytest.raises(ValueError, match="no published split 'crossval', only test, train, val"):
        build(split='crossval')
    with pytest.raises(ValueError, match='exclude each other'):
        build(split='val', ann_file='few.txt')


def test_other_data_are_read_in_the_colours_of_their_palette(root):
    changes = {
        'type': 'isda_suite.SemanticDataset',
        'img_suffix': '_sat.jpg',
        'seg_map_suffix': '_mask.png',
        'pipeline': PIPELINE,
    }
    palette = PALETTE.tolist()
    with DefaultScope.overwrite_default_scope('mmseg'):
        classes = {'classes': tuple('abcdefg'), 'palette': palette}
        dataset = DATASETS.build(config(root, raw=True, metainfo=classes, **changes))
        assert np.array_equal(label_of(dataset[ORDER.index(1)]), ids(1))
        other = {'classes': tuple('abcdefg'), 'palette': [[1, 2, 3], *palette[1:]]}
        strange = DATASETS.build(config(root, raw=True, metainfo=other, **changes))
        with pytest.raises(DataError, match=r'pixels have a colour of no class, .*\[0, 0, 0\] at'):
            strange[ORDER.index(0)]
        with pytest.raises(ValueError, match=r'metainfo=dict\(palette='):
            DATASETS.build(config(root, raw=True, metainfo={'classes': ('a', 'b')}, **changes))
        with pytest.raises(DataError, match=r'needs metainfo=dict\(classes='):
            DATASETS.build(config(root, **changes))
