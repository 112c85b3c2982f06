import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from isda_suite.apis.evaluation import (
    add_report,
    choose_evaluators,
    evaluators_of,
    make_format_only,
)
from isda_suite.engine.errors import ConfigError


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def _cfg(kind, evaluator=None, **dataset):
    data = {'type': kind, 'data_root': 'd/', **dataset}
    return Config({'test_dataloader': {'dataset': data}, 'test_evaluator': evaluator})


@pytest.mark.parametrize(
    ('kind', 'words'),
    [
        ('CocoDataset', {'segm', 'bbox', 'proposal'}),
        ('LVISV1Dataset', {'segm', 'bbox'}),
        ('VOCDataset', {'mAP'}),
        ('YouTubeVISDataset', {'youtube_vis_ap'}),
        ('mmseg.CityscapesDataset', {'mIoU', 'mDice', 'mFscore'}),
        ('isda_suite.CocoInstanceDataset', {'segm', 'bbox'}),
        ('isda_suite.YouTubeVISInstanceDataset', {'segm'}),
        ('isda_suite.DeepGlobeDataset', {'mIoU', 'mDice', 'mFscore'}),
        ('CocoPanopticDataset', set()),
        ('mmengine.BaseDataset', set()),
    ],
)
def test_a_data_set_says_what_it_can_be_evaluated_by(kind, words):
    assert set(evaluators_of({'type': kind})) == words


def test_words_of_one_metric_share_it_and_the_annotation_file_comes_from_the_data():
    cfg = _cfg('CocoDataset', ann_file='a.json')
    (metric,) = choose_evaluators(cfg, ['segm', 'bbox', 'segm'])
    assert metric['metric'] == ['segm', 'bbox']
    assert metric['ann_file'] == 'd/a.json'
    (metric,) = choose_evaluators(_cfg('mmseg.ADE20KDataset'), ['mIoU', 'mFscore'])
    assert metric == {'type': 'isda_suite.IoUMetric', 'iou_metrics': ['mIoU', 'mFscore']}


def test_other_settings_of_the_configured_metric_stay():
    configured = {
        'type': 'isda_suite.CocoMetric',
        'metric': 'bbox',
        'ann_file': 'own.json',
        'classwise': True,
        'format_only': True,
    }
    (metric,) = choose_evaluators(_cfg('CocoDataset', configured, ann_file='a.json'), ['segm'])
    assert metric['metric'] == 'segm' and metric['classwise']
    assert metric['ann_file'] == 'own.json' and not metric['format_only']


def test_data_nobody_knows_needs_a_configured_metric():
    with pytest.raises(ConfigError, match='leave --eval out'):
        choose_evaluators(_cfg('mmengine.BaseDataset'), ['segm'])


def test_format_only_needs_a_metric_that_writes_files():
    (coco,) = make_format_only({'type': 'isda_suite.CocoMetric', 'metric': 'segm'}, 'w')
    assert coco['format_only'] and coco['outfile_prefix'] == 'w/results'
    (iou,) = make_format_only([{'type': 'mmseg.IoUMetric'}], 'w')
    assert iou['output_dir'] == 'w/results'
    with pytest.raises(ConfigError, match='VOCMetric cannot write'):
        make_format_only({'type': 'VOCMetric'}, 'w')


def test_the_report_counts_the_pixels_that_the_metric_counts():
    metric = {'type': 'mmseg.IoUMetric', 'ignore_index': 7}
    first, report = add_report(_cfg('isda_suite.DeepGlobeDataset', metric), 'out')
    assert first == metric
    assert report == {
        'type': 'isda_suite.SegmentationReport',
        'out_dir': 'out',
        'ignore_index': 7,
    }
    *_, report = add_report(_cfg('mmseg.ADE20KDataset', [{'type': 'mmseg.IoUMetric'}]), 'out')
    assert 'ignore_index' not in report


def test_a_report_needs_classes_of_pixels_and_their_labels():
    with pytest.raises(ConfigError, match='type CocoDataset have none: leave --out-dir out'):
        add_report(_cfg('CocoDataset'), 'out')
    metric = {'type': 'mmseg.IoUMetric', 'format_only': True}
    with pytest.raises(ConfigError, match='--format-only uses none: leave one out'):
        add_report(_cfg('mmseg.ADE20KDataset', metric), 'out')
