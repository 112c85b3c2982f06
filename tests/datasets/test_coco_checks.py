"""Every fault of an annotation file is found, named and counted: one mutation a fault."""

import math

import pytest

from isda_suite.datasets.checks import check_annotations, inspect_dataset
from isda_suite.datasets.errors import DataError
from tests.data.coco_fake.make import SQUARE, config, make


def _set(where, index, **values):
    def change(content):
        content[where][index].update(values)

    return change


def _remove(where, index, key):
    def change(content):
        del content[where][index][key]

    return change


def _rle(size, counts):
    return _set('annotations', 1, segmentation={'size': size, 'counts': counts})


def _too_many_orphans(content):
    content['annotations'] += [
        {**content['annotations'][0], 'id': 100 + index, 'image_id': 77} for index in range(3)
    ]


FATAL = {
    'absent class': (_set('categories', 1, name='dogs'), "class 'dog' .* nearest: dogs"),
    'class twice': (_set('categories', 1, name='cat'), "name 'cat' stands 2 times"),
    'category id twice': (_set('categories', 1, id=5), 'category id 5 stands 2 times'),
    'annotation without id': (_remove('annotations', 2, 'id'), r'without id.*\n.*annotations\[2\]'),
    'annotation id twice': (_set('annotations', 2, id=1), 'annotation id 1 stands 2 times'),
    'image id twice': (_set('images', 1, id=10), 'image id 10: 0.jpg and 1.jpg'),
    'image without height': (_remove('images', 0, 'height'), 'image without height'),
    'absent image': (_too_many_orphans, 'more than 1 %.*\n.*3 of 7'),
    'RLE of another size': (_rle([64, 48], 'a'), r'\(64, 48\) but the image is \(48, 64\)'),
    'RLE too short': (_rle([48, 64], [100, 20]), 'counts cover 120 pixels, but 48 x 64 = 3072'),
    'RLE cut': (_rle([48, 64], 'aP'), 'ends inside a number'),
    'RLE without counts': (_rle([48, 64], None), 'RLE without size or counts'),
    'outside': (_set('images', 0, file_name='../../x.jpg'), 'points out of .*\n.*image id 10'),
    'absolute': (_set('images', 0, file_name='/etc/x.jpg'), 'points out of'),
    'no annotations list': (lambda content: content.pop('annotations'), 'no list "annotations"'),
    'no images left': (
        lambda content: content['annotations'].clear(),
        '0 of 3 images left: 3 without a usable annotation.*train',
    ),
    'images too small': (
        lambda content: [image.update(height=20) for image in content['images']],
        '3 with a side under 32 px|mask does not fit',
    ),
}


@pytest.mark.parametrize('name', FATAL)
def test_fatal_faults_stop_with_place_and_remedy(tmp_path, name):
    change, message = FATAL[name]
    make(tmp_path, change)
    with pytest.raises(DataError, match=message):
        check_annotations(config(tmp_path))


NOTES = {
    'no mask': (_set('annotations', 0, segmentation=[]), 'no mask: becomes an ignored region', 2),
    'two points': (
        _set('annotations', 0, segmentation=[[1, 1, 9, 9]]),
        'every polygon has under three points or an odd length: becomes an ignored region',
        2,
    ),
    'not finite': (
        _set('annotations', 0, segmentation=[[math.nan, *SQUARE[1:]]]),
        'polygon with a value that is not finite: dropped',
        2,
    ),
    'outside': (
        _set('annotations', 0, segmentation=[[200 + value for value in SQUARE]]),
        'polygons outside the image: dropped',
        2,
    ),
    'no box': (_remove('annotations', 0, 'bbox'), 'without bbox: computed from its mask', 3),
    'no area': (_remove('annotations', 0, 'area'), 'without area: computed from its mask', 3),
    'no box, no mask': (
        _set('annotations', 0, bbox=None, segmentation=None),
        'neither box nor mask: dropped',
        2,
    ),
    'tiny box': (_set('annotations', 0, bbox=[1, 1, 0.5, 9]), 'smaller than one pixel: dropped', 2),
    'crowd': (lambda content: None, 'crowd region, ignored in losses and matching', 3),
}


@pytest.mark.parametrize('name', NOTES)
def test_oddities_are_counted_and_training_goes_on(tmp_path, name):
    change, title, usable = NOTES[name]
    make(tmp_path, change)
    (report,) = inspect_dataset(config(tmp_path))
    assert not report.fatal
    (finding,) = [one for known, one in report.findings.items() if title in known]
    assert finding.count == 1
    assert 'annotation id' in finding.examples[0]
    assert report.facts['usable annotations'] == usable


def test_everything_wrong_is_listed_at_once(tmp_path):
    def change(content):
        for name in ('image id twice', 'annotation id twice', 'absent class', 'outside'):
            FATAL[name][0](content)

    make(tmp_path, change)
    with pytest.raises(DataError) as caught:
        check_annotations(config(tmp_path))
    text = str(caught.value)
    assert all(part in text for part in ('image id 10', 'annotation id 1 ', "'dog'", 'x.jpg'))


def test_examples_stop_at_five_and_the_count_goes_on(tmp_path):
    def change(content):
        content['annotations'] += [
            {**content['annotations'][0], 'id': 100 + index, 'bbox': [0, 0, 0, 0]}
            for index in range(9)
        ]

    make(tmp_path, change)
    (report,) = inspect_dataset(config(tmp_path))
    table = report.table()
    assert '9  note: box smaller than one pixel: dropped' in table
    assert table.count('annotation id 10') == 5
    assert '... and 4 more' in table


def test_unused_categories_are_named(tmp_path):
    make(tmp_path)
    (report,) = inspect_dataset(config(tmp_path, metainfo={'classes': ('cat',)}))
    assert not report.fatal
    assert '2  note: annotation of a category that the config does not name' in report.table()
    assert 'dog' in report.table()


def test_outside_images_can_be_allowed_and_test_files_need_no_annotations(tmp_path):
    make(tmp_path, FATAL['outside'][0])
    reports = inspect_dataset(config(tmp_path, allow_outside=True))
    assert 'points out' not in reports[0].table()
    make(tmp_path, FATAL['no annotations list'][0])
    assert check_annotations(config(tmp_path, test_mode=True))


def test_the_stock_reader_is_refused_when_it_would_swap_labels(tmp_path):
    make(tmp_path, lambda content: content['categories'].reverse())
    assert check_annotations(config(tmp_path))
    with pytest.raises(DataError, match='labels would be swapped'):
        check_annotations(config(tmp_path, type='mmdet.CocoDataset'))


def test_lvis_names_its_images_by_their_address(tmp_path, monkeypatch):
    def like_lvis(content):
        for image in content['images']:
            image['coco_url'] = f'http://images.cocodataset.org/train/{image.pop("file_name")}'

    make(tmp_path, like_lvis)
    lvis = config(tmp_path, type='mmdet.LVISV1Dataset', data_prefix={'img': ''}, metainfo={})
    (report,) = inspect_dataset(lvis)
    assert report.facts['images'] == 3 and not any('image' in title for title in report.findings)
    assert '2 categories in the json, 1203 in the data set class' in report.findings
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(DataError, match='pip install lvis'):
        check_annotations(lvis)


def test_wrappers_are_looked_into_and_unknown_types_are_said(tmp_path):
    make(tmp_path)
    inner = config(tmp_path)
    wrapped = {'type': 'ConcatDataset', 'datasets': [inner, {'type': 'X', 'dataset': inner}]}
    assert len(check_annotations(wrapped)) == 2
    (report,) = check_annotations(config(tmp_path, type='mmdet.CityscapesDataset'))
    assert report.facts['images'] == 3
    (report,) = check_annotations(config(tmp_path, type='mmdet.XMLDataset'))
    assert 'no check for data sets of type XMLDataset' in report.table()


def test_a_missing_file_or_another_kind_of_file_is_named(tmp_path):
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no annotation file .*absent\.json'):
        check_annotations(config(tmp_path, ann_file='absent.json'))
    for text, message in (('{"images": [', 'not a whole json'), ('[]', '"images" is missing')):
        (tmp_path / 'bad.json').write_text(text)
        with pytest.raises(DataError, match=message):
            check_annotations(config(tmp_path, ann_file='bad.json'))
