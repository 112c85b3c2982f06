"""Errors of results files: of images and videos, in the forms they come in, and wrong files."""

import json

import numpy as np
import pytest

from isda_suite.apis.reports.error_analysis import analyse_results, write_analysis
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.mask_code import encode_mask
from tests.engine.toy import SIZE_HW, write_coco
from tests.tools.in_process import call_tool
from tests.visualization.test_html_page import assert_self_contained

_KEYS = ('image_id', 'category_id', 'bbox', 'segmentation', 'score')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Annotations of 4 images, each with class 1 on the left and class 2 on the right."""
    folder = tmp_path_factory.mktemp('errors')
    write_coco(folder)
    return folder


def _mask(box):
    x, y, w, h = box
    mask = np.zeros(SIZE_HW, bool)
    mask[y : y + h, x : x + w] = True
    return encode_mask(mask)


def _results(data):
    """All right but for one of a wrong class and one that is missed."""
    content = json.loads((data / 'annotations/instances_val.json').read_text())
    rows = [
        {
            'image_id': one['image_id'],
            'category_id': one['category_id'],
            'bbox': one['bbox'],
            'segmentation': _mask(one['bbox']),
            'score': 0.9,
        }
        for one in content['annotations']
    ][:-1]
    rows[0]['category_id'] = 2
    return rows


def _write(folder, rows):
    path = folder / 'results.json'
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize('kind', [None, 'segm', 'bbox'])
def test_errors_are_counted_for_masks_and_boxes(data, tmp_path, kind):
    path = _write(tmp_path, _results(data))
    found = analyse_results(path, data / 'annotations/instances_val.json', kind)
    wrong = {name: count for name, count in found.analysis.error_counts.items() if count}
    assert wrong == {'classification': 1, 'missed': 1}
    assert found.analysis.num_annotated.tolist() == [4, 4]
    assert found.text().count('\n') == 9 and 'classification' in found.text()


def test_what_test_writes_is_read_too(data, tmp_path):
    rows = [
        {
            'img_id': one['image_id'],
            'instances': [
                {
                    'label': one['category_id'] - 1,
                    'score': one['score'],
                    'bbox': [*one['bbox'][:2], one['bbox'][0] + one['bbox'][2],
                             one['bbox'][1] + one['bbox'][3]],
                }
            ],
        }
        for one in _results(data)
    ]  # fmt: skip
    found = analyse_results(_write(tmp_path, rows), data / 'annotations/instances_val.json')
    assert found.analysis.error_counts['classification'] == 1


def test_images_without_a_result_count_as_missed(data, tmp_path):
    found = analyse_results(_write(tmp_path, []), data / 'annotations/instances_val.json')
    assert found.analysis.error_counts['missed'] == 8


def test_the_command_prints_and_draws(data, tmp_path, monkeypatch, capsys):
    path, out = _write(tmp_path, _results(data)), tmp_path / 'errors.html'
    annotations = data / 'annotations/instances_val.json'
    words = (path, annotations, '--images', data / 'val', '--out', out, '--num', 1)
    assert call_tool(monkeypatch, 'tools/analysis/analyze_results.py', *words) == 0
    assert 'false negatives' in capsys.readouterr().out
    content = out.read_text()
    assert_self_contained(content)
    assert content.count('<img') == 5 and 'not drawn' not in content


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda row: row.pop('score'), 'without image_id, category_id and score'),
        (lambda row: row.update(image_id=99), 'image that the annotation file lacks'),
        (lambda row: row.update(score=float('nan')), 'no finite number'),
        (lambda row: row.update(segmentation=_mask([0, 0, 1, 1]) | {'size': [2, 2]}), 'not fit'),
        (lambda row: row.update(bbox=[1, 2]), 'does not fit'),
        (lambda row: (row.clear(), row.update(sem_seg={})), 'the report of test judges these'),
    ],
)
def test_wrong_results_are_named(data, tmp_path, change, message):
    rows = _results(data)
    change(rows[1])
    with pytest.raises(DataError, match=message):
        analyse_results(_write(tmp_path, rows), data / 'annotations/instances_val.json')


def test_wrong_kinds_are_refused(data, tmp_path):
    annotations = data / 'annotations/instances_val.json'
    rows = [{key: row[key] for key in _KEYS if key != 'segmentation'} for row in _results(data)]
    with pytest.raises(DataError, match='have no segmentation'):
        analyse_results(_write(tmp_path, rows), annotations, 'segm')
    with pytest.raises(ConfigError, match='segm, bbox'):
        analyse_results(_write(tmp_path, rows), annotations, 'mask')
    with pytest.raises(ConfigError, match='absent is no folder'):
        analyse_results(_write(tmp_path, rows), annotations, images=tmp_path / 'absent')
    with pytest.raises(DataError, match='it holds annotations, not results'):
        analyse_results(annotations, annotations)


def test_lvis_does_not_judge_classes_that_nobody_looked_for(data, tmp_path):
    content = json.loads((data / 'annotations/instances_val.json').read_text())
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/val/{image.pop("file_name")}'
        image |= {'neg_category_ids': [], 'not_exhaustive_category_ids': []}
    content['images'][1]['neg_category_ids'] = [1, 2]
    first, second = content['images'][:2]
    content['annotations'] = [
        {key: value for key, value in one.items() if key != 'iscrowd'}
        for one in content['annotations']
        if one['image_id'] == first['id'] and one['category_id'] == 1
    ]
    rows = [row for row in _results(data) if row['image_id'] in (first['id'], second['id'])]
    path = tmp_path / 'lvis.json'
    path.write_text(json.dumps(content))
    found = analyse_results(_write(tmp_path, rows), path, images=data, num_shown=1)
    # In the first image class 1 is annotated alone; in the second nothing is there for sure.
    assert found.analysis.num_detected.sum() == 2
    write_analysis(found, tmp_path / 'errors.html', 'lvis')
    assert 'not drawn' not in (tmp_path / 'errors.html').read_text()


def _videos(masks):
    video = {'id': 7, 'height': 20, 'width': 30, 'length': 2, 'file_names': ['a.png', 'b.png']}
    track = {'id': 1, 'video_id': 7, 'category_id': 4, 'iscrowd': 0, 'segmentations': masks}
    track |= {'bboxes': [[0, 0, 9, 9]] * 2, 'areas': [81] * 2}
    categories = [{'id': 4, 'name': 'cat'}, {'id': 5, 'name': 'dog'}]
    return {'videos': [video], 'categories': categories, 'annotations': [track]}


@pytest.mark.parametrize('written_by_test', [False, True])
def test_videos_are_analysed_by_their_tracks(tmp_path, written_by_test):
    mask = np.zeros((20, 30), bool)
    mask[:9, :9] = True
    masks = [encode_mask(mask)] * 2
    (tmp_path / 'tracks.json').write_text(json.dumps(_videos(masks)))
    if written_by_test:
        track = {'label': 1, 'score': 0.5, 'segmentations': masks}
        rows = [{'video_id': 7, 'video_length': 2, 'size_hw': [20, 30], 'tracks': [track]}]
    else:
        rows = [{'video_id': 7, 'category_id': 5, 'score': 0.5, 'segmentations': masks}]
    found = analyse_results(_write(tmp_path, rows), tmp_path / 'tracks.json')
    wrong = {name: count for name, count in found.analysis.error_counts.items() if count}
    assert wrong == {'classification': 1}
    write_analysis(found, tmp_path / 'errors.html', 'videos')
    assert_self_contained((tmp_path / 'errors.html').read_text())
    with pytest.raises(ConfigError, match='of videos'):
        analyse_results(_write(tmp_path, rows), tmp_path / 'tracks.json', 'bbox')
