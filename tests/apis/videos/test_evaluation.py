"""Results files of videos: written, checked, evaluated; the metric while testing."""

import json
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement, InstanceData

from isda_suite.apis.predictions import PredictionFile
from isda_suite.apis.videos.evaluation import evaluate_video_results
from isda_suite.apis.videos.results_file import read_results, write_results
from isda_suite.apis.videos.tracks import merged_videos
from isda_suite.apis.videos.youtube_vis_metric import YouTubeVISMetric
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.mask_code import encode_mask
from tests.tools.in_process import call_tool

SIZE = (20, 30)


def _code(rows, columns):
    mask = np.zeros(SIZE, bool)
    mask[rows, columns] = True
    return encode_mask(mask)


FIRST, SECOND = _code(slice(2, 12), slice(3, 13)), _code(slice(5, 19), slice(14, 28))


def _content():
    videos = [
        {'id': one, 'height': SIZE[0], 'width': SIZE[1], 'length': 3, 'file_names': list('abc')}
        for one in (4, 9)
    ]
    tracks = [(1, 4, 2, [FIRST, None, FIRST]), (2, 9, 5, [SECOND] * 3)]
    return {
        'videos': videos,
        'categories': [{'id': 2, 'name': 'cat'}, {'id': 5, 'name': 'dog'}],
        'annotations': [
            {
                'id': identity,
                'video_id': video,
                'category_id': category,
                'iscrowd': 0,
                'segmentations': masks,
                'bboxes': [mask and [2, 2, 10, 10] for mask in masks],
                'areas': [mask and 100 for mask in masks],
            }
            for identity, video, category, masks in tracks
        ],
    }


def _results():
    keys = ('video_id', 'category_id', 'score', 'segmentations')
    rows = [(4, 2, 0.9, [FIRST, None, FIRST]), (9, 5, 0.8, [SECOND] * 3)]
    return [dict(zip(keys, row, strict=True)) for row in rows]


@pytest.fixture
def ann_file(tmp_path):
    path = tmp_path / 'valid.json'
    path.write_text(json.dumps(_content()))
    return path


def _sample(video_id, tracks, done=True):
    sample = BaseDataElement(
        metainfo={'video_id': video_id, 'video_length': 3, 'ori_shape': SIZE, 'video_done': done}
    )
    if done:
        labels, scores, masks = zip(*tracks, strict=True) if tracks else ((), (), ())
        sample.pred_tracks = InstanceData(
            labels=torch.tensor(labels, dtype=torch.long), scores=torch.tensor(scores)
        )
        sample.pred_tracks.masks = list(masks)
    return sample.to_dict()


def _metric(ann_file, **options):
    metric = YouTubeVISMetric(str(ann_file), **options)
    metric.dataset_meta = {'classes': ('dog', 'cat')}
    return metric


def _perfect(metric):
    metric.process({}, [_sample(9, [], done=False)])
    metric.process({}, [_sample(9, [(0, 0.8, [SECOND] * 3), (-1, 0.9, [SECOND] * 3)])])
    metric.process({}, [_sample(4, [(1, 0.9, [FIRST, None, FIRST])])])
    return metric.evaluate(3)


def test_perfect_tracks_reach_one_and_labels_follow_names(ann_file):
    values = _perfect(_metric(ann_file, classwise=True))
    assert len(values) == 14
    assert values['youtube_vis/segm_mAP'] == pytest.approx(1)
    assert values['youtube_vis/segm_cat_mAP'] == pytest.approx(1)


def test_the_files_for_the_server_are_written_whole(ann_file, tmp_path):
    content = _content()
    content['annotations'] = None
    ann_file.write_text(json.dumps(content))
    prefix = tmp_path / 'out' / 'results'
    metric = _metric(ann_file, format_only=True, outfile_prefix=str(prefix))
    assert _perfect(metric) == {}
    with zipfile.ZipFile(f'{prefix}.zip') as archive:
        assert archive.namelist() == ['results.json']
        packed = json.loads(archive.read('results.json'))
    assert packed == read_results(f'{prefix}.zip') == read_results(f'{prefix}.json')
    assert [(one['video_id'], one['category_id']) for one in packed] == [(4, 2), (9, 5), (9, 0)]
    assert packed[0]['segmentations'] == [FIRST, None, FIRST]
    assert sorted(path.name for path in prefix.parent.iterdir()) == ['results.json', 'results.zip']


def test_a_file_without_annotations_is_refused_at_the_first_batch(ann_file):
    content = _content()
    content['annotations'] = None
    ann_file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'--format-only.*held out'):
        _metric(ann_file).process({}, [_sample(9, [], done=False)])


def test_nothing_found_is_zero_with_a_warning(ann_file, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    metric = _metric(ann_file)
    metric.process({}, [_sample(4, []), _sample(9, [])])
    values = metric.evaluate(2)
    logger.removeHandler(caplog.handler)
    assert values['youtube_vis/segm_mAP'] == 0 and 'nothing was found in 2 videos' in caplog.text


def test_ranks_are_put_together_and_videos_count_once():
    one, other = {'video_id': 1, 'tracks': []}, {'video_id': 2, 'tracks': []}
    parts = [([one, other], set()), ([], set()), ([dict(one)], {2})]
    assert merged_videos(parts) == [one, other]
    with pytest.raises(ValueError, match='1 videos have no last clip'):
        merged_videos([([one], {7})])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'video_id': 77}, 'video id 77'),
        ({'segmentations': [FIRST]}, 'video id 4: 1, the video has 3'),
        ({'score': float('nan')}, 'score that is no finite number'),
        ({'segmentations': [{**FIRST, 'size': [5, 5]}, None, None]}, 'frame 0: size'),
        ({'segmentations': [None, {**FIRST, 'counts': '12'}, None]}, 'frame 1: its runs cover'),
    ],
)
def test_results_that_do_not_fit_are_refused(change, message):
    results = _results()
    results[0].update(change)
    with pytest.raises(DataError, match=message):
        evaluate_video_results(results, _content())


def test_annotations_with_the_same_id_are_refused():
    content = _content()
    content['annotations'][1]['id'] = 1
    with pytest.raises(DataError, match='annotation id 1 stands 2 times'):
        evaluate_video_results(_results(), content)


def test_an_empty_list_of_results_gives_zeros():
    assert evaluate_video_results([], _content()).numbers['mAP'] == 0


def test_the_tool_prints_numbers_and_classes(ann_file, tmp_path, monkeypatch, capsys):
    _, packed = write_results(_results(), tmp_path / 'found')
    tool = 'tools/misc/eval_video_results.py'
    assert call_tool(monkeypatch, tool, packed, ann_file) == 0
    shown = capsys.readouterr().out
    first = ' Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000'
    assert first in shown and shown.count('@[ IoU=') == 12
    assert any(line.split()[:2] == ['cat', '100.0'] for line in shown.splitlines())
    assert call_tool(monkeypatch, tool, tmp_path / 'absent.json', ann_file) == 2
    packed.write_text('{}')
    assert call_tool(monkeypatch, tool, packed, ann_file) == 3


@pytest.mark.parametrize('wrong', [{'metric': 'bbox'}, {'format_only': True}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ConfigError):
        YouTubeVISMetric(**wrong)


def test_predictions_of_videos_are_written(tmp_path):
    writer = PredictionFile(tmp_path / 'found.json')
    writer.process({}, [_sample(9, [], done=False), _sample(9, [(0, 0.5, [SECOND] * 3)])])
    writer.evaluate(2)
    (entry,) = json.loads((tmp_path / 'found.json').read_text())
    assert entry['video_id'] == 9 and entry['size_hw'] == list(SIZE)
    assert entry['tracks'] == [{'label': 0, 'score': 0.5, 'segmentations': [SECOND] * 3}]
