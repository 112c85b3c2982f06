"""Every fault of a YouTube-VIS file is found, named and counted: one mutation a fault."""

import math

import pytest

from isda_suite.datasets.checks import check_annotations, inspect_dataset
from isda_suite.datasets.errors import DataError
from tests.data.youtube_vis_fake.faults import FATAL, OF_TRAINING, remove_item, set_frame, set_item
from tests.data.youtube_vis_fake.make import SQUARE, clip_config, config, make

FRAMES = 'train/JPEGImages'


@pytest.mark.parametrize('name', [name for name in FATAL if name not in OF_TRAINING])
def test_clips_of_a_test_stop_at_the_same_faults(tmp_path, name):
    change, message = FATAL[name]
    make(tmp_path, change)
    with pytest.raises(DataError, match=message):
        check_annotations(clip_config(tmp_path))


@pytest.mark.parametrize('name', FATAL)
def test_fatal_faults_stop_with_place_and_remedy(tmp_path, name):
    change, message = FATAL[name]
    make(tmp_path, change)
    with pytest.raises(DataError, match=message):
        check_annotations(config(tmp_path))


def _null_in_every_frame(content):
    track = content['annotations'][0]
    for key in ('segmentations', 'bboxes', 'areas'):
        track[key] = [None] * 4


NOTES = {
    'hidden in every frame': (_null_in_every_frame, 'null in every frame: dropped', 1, 7),
    'no mask': (set_frame(1, 2, segmentations=None), 'no mask: becomes an ignored region', 1, 9),
    'two points': (
        set_frame(2, 2, segmentations=[[1, 1, 9, 9]]),
        'every polygon has under three points or an odd length: becomes an ignored region',
        1,
        9,
    ),
    'two points, no box': (
        set_frame(2, 2, segmentations=[[1, 1, 9, 9]], bboxes=None),
        'every polygon has under three points or an odd length: dropped',
        1,
        9,
    ),
    'not finite': (
        set_frame(2, 2, segmentations=[[math.nan, *SQUARE[1:]]]),
        'polygon with a value that is not finite: dropped',
        1,
        9,
    ),
    'outside': (
        set_frame(2, 2, segmentations=[[200 + value for value in SQUARE]]),
        'polygons outside the image: dropped',
        1,
        9,
    ),
    'empty mask': (
        set_frame(1, 2, segmentations={'size': [48, 64], 'counts': [3072]}),
        'mask without a pixel: dropped',
        1,
        9,
    ),
    'empty mask, no area': (
        set_frame(1, 2, segmentations={'size': [48, 64], 'counts': [3072]}, areas=None),
        'mask without a pixel: dropped',
        1,
        9,
    ),
    'area of zero': (set_frame(1, 2, areas=0), 'area of zero or less: dropped', 1, 9),
    'tiny box': (set_frame(1, 2, bboxes=[1, 1, 0.5, 9]), 'smaller than one pixel: dropped', 1, 9),
    'no box': (set_frame(1, 2, bboxes=None), 'frame without bbox: computed from its mask', 1, 10),
    'no areas': (
        remove_item('annotations', 1, 'areas'),
        'frame without area: computed from its mask',
        4,
        10,
    ),
    'crowd': (lambda content: None, 'crowd region, ignored in losses and matching', 2, 10),
    'ignored track': (set_item('annotations', 0, ignore=1), 'marked "ignore": dropped', 3, 7),
}


@pytest.mark.parametrize('name', NOTES)
def test_oddities_are_counted_and_training_goes_on(tmp_path, name):
    change, title, count, masks = NOTES[name]
    make(tmp_path, change)
    (report,) = inspect_dataset(config(tmp_path))
    assert not report.fatal
    (finding,) = [one for known, one in report.findings.items() if title in known]
    assert finding.count == count
    assert 'video id' in finding.examples[0] and 'annotation id' in finding.examples[0]
    assert report.facts['usable masks'] == masks


def test_frames_without_the_object_are_normal(tmp_path):
    make(tmp_path, lambda content: content['annotations'].pop())
    (report,) = inspect_dataset(config(tmp_path))
    assert 'nothing wrong found' in report.table()
    assert report.facts == {
        'videos': 3,
        'frames': 9,
        'annotations (tracks)': 3,
        'categories': 2,
        'usable tracks': 3,
        'usable masks': 10,
        'videos used': 2,
    }


@pytest.mark.parametrize('values', [{'video_id': 77}, {'category_id': 77}])
def test_a_few_orphans_are_dropped_and_counted(tmp_path, values):
    def change(content):
        track = content['annotations'][0]
        content['annotations'] += [{**track, 'id': 100 + index} for index in range(200)]
        content['annotations'][-1].update(values)

    make(tmp_path, change)
    (report,) = inspect_dataset(config(tmp_path))
    assert not report.fatal
    assert '1  note: annotation of an ' in report.table()
    assert 'annotation id 299' in report.table()


def test_everything_wrong_is_listed_at_once(tmp_path):
    names = ('absent class', 'length', 'outside', 'annotation id twice', 'RLE cut')

    def change(content):
        for name in names:
            FATAL[name][0](content)

    make(tmp_path, change)
    with pytest.raises(DataError) as caught:
        check_annotations(config(tmp_path))
    text = str(caught.value)
    for part in ("'dog'", 'length 5', 'x.jpg', 'annotation id 11 stands', 'annotation id 12, fram'):
        assert part in text
    assert 'videos left' not in text


def test_unused_categories_are_named(tmp_path):
    make(tmp_path)
    (report,) = inspect_dataset(config(tmp_path, metainfo={'classes': ('cat',)}))
    assert not report.fatal
    assert '2  note: annotation of a category that the config does not name' in report.table()
    assert 'dog' in report.table()


def test_outside_frames_can_be_allowed_and_test_files_need_no_annotations(tmp_path):
    make(tmp_path, FATAL['outside'][0])
    (report,) = inspect_dataset(config(tmp_path, allow_outside=True))
    assert 'points out' not in report.table()
    make(tmp_path, FATAL['no annotations list'][0])
    assert check_annotations(config(tmp_path, test_mode=True))


def test_a_missing_file_or_another_kind_of_file_is_named(tmp_path):
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'no annotation file .*absent\.json'):
        check_annotations(config(tmp_path, ann_file='absent.json'))
    for text, message in (
        ('{"videos": [', 'not a whole json'),
        ('[]', '"videos" is missing'),
        ('{"videos": [], "categories": {}}', '"categories" is missing or no list'),
        ('{"videos": [{}, 7], "categories": []}', r"videos\[1\] is no object, but '7'"),
        ('{"images": []}', '"videos" is missing or no list'),
        (
            '{"videos": [], "categories": [], "images": [{}]}',
            'has a list "images".*YouTube-VIS file it was made',
        ),
    ):
        (tmp_path / 'bad.json').write_text(text)
        with pytest.raises(DataError, match=message):
            check_annotations(config(tmp_path, ann_file='bad.json'))


def test_a_frame_that_is_not_on_disk_is_found_at_the_start(tmp_path):
    make(tmp_path)
    (tmp_path / FRAMES / 'v2/00001.jpg').unlink()
    with pytest.raises(DataError, match=r'video id 2, frame 1: no image .*v2/00001\.jpg'):
        check_annotations(config(tmp_path))


def _converted(content):
    """Write the form that mmdet's converter makes."""
    images, annotations = [], []
    for video in content['videos']:
        for frame, name in enumerate(video.pop('file_names')):
            image = {'id': len(images) + 1, 'file_name': name, 'video_id': video['id']}
            images.append({**image, 'frame_id': frame, 'height': 48, 'width': 64})
            for track in content['annotations']:
                if track['video_id'] == video['id'] and track['bboxes'][frame]:
                    found = {'id': len(annotations) + 1, 'image_id': image['id']}
                    found |= {key: track[key] for key in ('category_id', 'iscrowd')}
                    found |= {'instance_id': track['id'], 'area': track['areas'][frame]}
                    found |= {'bbox': track['bboxes'][frame]}
                    annotations.append({**found, 'segmentation': track['segmentations'][frame]})
    content.update(images=images, annotations=annotations)


def test_the_file_mmdet_converts_is_checked_for_its_own_reader(tmp_path):
    make(tmp_path, _converted)
    stock = config(tmp_path, type='mmdet.YouTubeVISDataset', dataset_version='2019')
    (report,) = inspect_dataset(stock, images=True)
    assert not report.fatal
    assert report.facts['images'] == 9 and report.facts['usable annotations'] == 10
    (tmp_path / FRAMES / 'v1/00000.jpg').unlink()
    with pytest.raises(DataError, match=r'video id 1, frame 0: no image'):
        check_annotations(stock)

    def swapped(content):
        _converted(content)
        content['categories'].reverse()

    make(tmp_path, swapped)
    with pytest.raises(DataError, match=r'swapped: use .*isda_suite\.YouTubeVISInstanceDataset'):
        check_annotations(stock)
