"""The report of a test: everything in one file, and never in the way of the numbers."""

import hashlib
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData

from isda_suite.apis.reports import report as report_module
from isda_suite.apis.reports.parts import Extremes, analysis_of
from isda_suite.apis.reports.report import ReportHook, ReportSettings
from isda_suite.apis.reports.videos import VideoCollector
from isda_suite.apis.test import evaluate
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.mask_code import encode_mask
from tests.data.deepglobe_fake.make import make as make_deepglobe
from tests.engine import toy_segmentor
from tests.engine.toy import ToySegmenter, write_coco, write_config
from tests.visualization.test_html_page import Tags, assert_self_contained

EVIL = '<script>alert(1)</script>$x'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Data whose class and file names are an attack, and weights that find something."""
    root = tmp_path_factory.mktemp('report')
    write_coco(root / 'data')
    place = root / 'data/annotations/instances_val.json'
    content = json.loads(place.read_text())
    content['categories'][0]['name'] = EVIL
    content['images'][0]['file_name'] = '<b>0.png'
    (root / 'data/val/0.png').rename(root / 'data/val/<b>0.png')
    place.write_text(json.dumps(content))
    torch.manual_seed(1)
    torch.save({'state_dict': ToySegmenter(2).state_dict()}, root / 'toy.pth')
    return root


@pytest.fixture(scope='module')
def config(folder):
    return write_config(folder, folder / 'data')


OPTIONS = {
    'test_dataloader.dataset.metainfo.classes': [EVIL, 'green'],
    'test_evaluator.metric': ['segm', 'bbox'],
}


@pytest.fixture(scope='module')
def instances(folder, config):
    """Metrics and the text of the report."""
    metrics = evaluate(
        config,
        folder / 'toy.pth',
        work_dir=folder / 'w',
        cfg_options=OPTIONS,
        report='auto',
        report_images=1,
    )
    return metrics, (folder / 'w/report.html').read_text(encoding='utf-8')


def test_a_report_needs_nothing_else_and_runs_nothing(instances):
    _, content = instances
    assert_self_contained(content)
    shown = Tags(content)
    assert EVIL in shown.text and '<b>0.png' in shown.text
    assert [tag for tag, _ in shown.tags].count('img') == 5  # three charts, the best, the worst


def test_a_report_holds_metrics_speed_and_origin(instances, folder, config):
    metrics, content = instances
    text = Tags(content).text
    for name, value in metrics.items():
        assert f'{name}{value:.4f}' in text
    assert hashlib.sha256((folder / 'toy.pth').read_bytes()).hexdigest() in text
    for words in ('images a second', 'most memory of a process', 'command', "type='ToySegmenter'",
                  str(config), torch.__version__):  # fmt: skip
        assert words in text


def test_a_report_says_the_same_ap_as_the_metric(instances):
    metrics, content = instances
    rows = re.findall(r'<tr><td>[^<]*</td>((?:<td class=number[^>]*>[\d.]+</td>){6})</tr>', content)
    columns = [re.findall(r'>([\d.]+)<', row) for row in rows]
    assert len(columns) == 2
    for place, name in enumerate(['mAP', 'mAP_50', 'mAP_75']):
        mean = sum(float(row[place]) for row in columns) / 2
        assert mean == pytest.approx(100 * metrics[f'coco/segm_{name}'], abs=0.01)


def test_without_being_asked_the_function_writes_no_report(folder, config, tmp_path):
    options = {**OPTIONS, 'test_evaluator.metric': 'segm'}
    evaluate(config, folder / 'toy.pth', work_dir=tmp_path, cfg_options=options)
    assert not list(tmp_path.rglob('*.html'))


@pytest.mark.parametrize('place', ['add', 'sections'])
def test_a_report_that_fails_costs_no_numbers(
    folder, config, tmp_path, monkeypatch, instances, place
):
    def fail(*args):
        raise KeyError('<i>broken')

    monkeypatch.setattr(report_module.InstanceCollector, place, fail)
    metrics = evaluate(
        config,
        folder / 'toy.pth',
        work_dir=tmp_path,
        cfg_options=OPTIONS,
        report='auto',
        report_images=0,
    )
    assert metrics == pytest.approx(instances[0], nan_ok=True)
    content = (tmp_path / 'report.html').read_text()
    assert_self_contained(content)
    assert 'KeyError' in Tags(content).text and 'coco/segm_mAP' in Tags(content).text


def test_a_report_that_cannot_be_written_costs_no_numbers(folder, config, tmp_path, instances):
    (tmp_path / 'file').write_text('in the way')
    place = tmp_path / 'file/report.html'
    options = dict(work_dir=tmp_path, cfg_options=OPTIONS, report=place, report_images=0)
    metrics = evaluate(config, folder / 'toy.pth', **options)
    assert metrics == pytest.approx(instances[0], nan_ok=True)


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, 'is_main_process', lambda: False)
    hook = ReportHook(ReportSettings(tmp_path / 'r.html', 'c', '', 'w.pth'))
    hook.before_test_epoch(None)
    hook.after_test_epoch(SimpleNamespace(), {'a': 1.0})
    assert not (tmp_path / 'r.html').exists()


def test_a_wrong_number_of_images_is_refused(folder, config):
    with pytest.raises(ConfigError, match='--report-images'):
        evaluate(config, folder / 'toy.pth', report='auto', report_images=-1)


def test_semantic_data_get_confusions_classes_and_pictures(tmp_path):
    make_deepglobe(tmp_path / 'data')
    config = toy_segmentor.write_config(tmp_path, tmp_path / 'data')
    from isda_suite.apis.model import build_model

    torch.save({'state_dict': build_model(config).state_dict()}, tmp_path / 'toy.pth')
    metrics = evaluate(
        config, tmp_path / 'toy.pth', work_dir=tmp_path / 'w', report='auto', report_images=1
    )
    content = (tmp_path / 'w/report.html').read_text()
    text = Tags(content).text
    assert_self_contained(content)
    assert f'mIoU{metrics["mIoU"]:.4f}' in text and 'urban' in text
    assert 'Failure' not in text and 'not drawn' not in text
    assert [tag for tag, _ in Tags(content).tags].count('img') in (2, 3)


SIZE_HW = (24, 32)


def _code(top):
    mask = np.zeros(SIZE_HW, bool)
    mask[top : top + 8, 4:20] = True
    return encode_mask(mask)


def _write_videos(folder):
    for number in range(2):
        (folder / 'a').mkdir(exist_ok=True, parents=True)
        cv2.imwrite(str(folder / f'a/{number}.png'), np.full((*SIZE_HW, 3), 60, np.uint8))
    masks = [_code(4), _code(6)]
    content = {
        'videos': [
            {'id': 1, 'height': 24, 'width': 32, 'length': 2, 'file_names': ['a/0.png', 'a/1.png']}
        ],
        'categories': [{'id': 1, 'name': EVIL}, {'id': 2, 'name': 'dog'}],
        'annotations': [
            {
                'id': 1,
                'video_id': 1,
                'category_id': 1,
                'iscrowd': 0,
                'segmentations': masks,
                'bboxes': [[4, 4, 16, 8], [4, 6, 16, 8]],
                'areas': [128, 128],
            }
        ],
    }
    (folder / 'tracks.json').write_text(json.dumps(content))
    return masks


def _clip(folder, masks, label):
    frames = [BaseDataElement(metainfo={'img_path': str(folder / f'a/{i}.png')}) for i in range(2)]
    facts = dict(video_id=1, video_done=True, video_length=2, ori_shape=SIZE_HW, num_valid=2)

    class Clip(BaseDataElement):
        def __iter__(self):
            return iter(frames)

    clip = Clip(metainfo={**facts, 'clip_frames': [0, 1]})
    tracks = InstanceData(labels=torch.tensor([label, -1]), scores=torch.tensor([0.9, 0.8]))
    tracks.masks = [masks, [None, None]]
    clip.pred_tracks = tracks
    return clip


@pytest.mark.parametrize(('label', 'kind'), [(0, None), (1, 'classification')])
def test_videos_are_judged_by_whole_tracks_and_drawn(tmp_path, label, kind):
    masks = _write_videos(tmp_path)
    collector = VideoCollector(tmp_path / 'tracks.json', [EVIL, 'dog'], 1, 0.3)
    collector.add(_clip(tmp_path, masks, label))
    sections = collector.sections([collector.payload()])
    [(judged, _)] = collector.judged_of([collector.payload()])
    counts = analysis_of([judged], 2).error_counts
    assert {name for name, count in counts.items() if count} == ({kind} - {None})
    assert sum(part.count('<img') for _, parts in sections for part in parts) == 4
    assert not any('not drawn' in part for _, parts in sections for part in parts)


def test_only_the_best_and_worst_are_kept_and_made():
    found, made = Extremes(2), []

    def keep(value):
        def make():
            made.append(value)
            return value

        found.offer(value, 1, make)

    for value in (0.5, 0.9, 0.1, float('nan'), 0.4, 0.95, 0.3, 0.6, 0.05):
        keep(value)
    worst, best = found.split()
    assert [one.item for one in best] == [0.95, 0.9]
    assert [one.item for one in worst] == [0.05, 0.1]
    assert 0.6 not in made and len(found.taken()) == 6


@pytest.mark.parametrize(('count', 'sizes'), [(1, (0, 1)), (2, (1, 1)), (3, (1, 2)), (9, (3, 3))])
def test_nothing_is_shown_as_best_and_worst_also_when_all_are_alike(count, sizes):
    found = Extremes(3)
    for number in range(count):
        found.offer(0.5, 1, lambda number=number: number)
    worst, best = found.split()
    assert (len(worst), len(best)) == sizes
    assert not {one.item for one in worst} & {one.item for one in best}
