"""Video AP beside mmdet's YTVISeval, and by hand."""

import contextlib
import copy
import io
import math

import numpy as np
import pytest
from mmdet.evaluation.functional import YTVIS, YTVISeval
from pycocotools import mask as coco_mask

from isda_suite.metrics.class_table import class_table
from isda_suite.metrics.youtube_vis_evaluation import evaluate_results, video_numbers
from isda_suite.metrics.youtube_vis_tracks import found_track, sequence_ious

HEIGHT, WIDTH = 300, 400


def _mask(rng, near=None, size=(HEIGHT, WIDTH)):
    y, x, h, w = near or (*rng.integers(0, 150, 2), *rng.integers(1, 330, 2))
    y, x, h, w = (int(max(value + rng.integers(-9, 10), 0)) for value in (y, x, h, w))
    mask = np.zeros(size, np.uint8, order='F')
    mask[y : y + h, x : x + w] = 1
    return (y, x, h, w), coco_mask.encode(mask)


def _text(code):
    return {'size': list(code['size']), 'counts': code['counts'].decode()}


def _random_set(seed):
    """Return a small annotation file and results: crowds, gaps, equal scores, odd sizes."""
    rng = np.random.default_rng(seed)
    videos = [
        {'id': one, 'height': HEIGHT, 'width': WIDTH, 'length': int(rng.integers(1, 6))}
        for one in (7, 3, 5)
    ]
    annotations, results = [], []
    for video in videos:
        for _ in range(rng.integers(0, 5)):
            label, (place, _) = int(rng.integers(1, 4)), _mask(rng)
            codes = [
                _mask(rng, place)[1] if rng.random() < 0.8 else None for _ in range(video['length'])
            ]
            annotation = {
                'id': len(annotations) + 1,
                'video_id': video['id'],
                'category_id': label,
                'iscrowd': int(rng.random() < 0.2),
                'segmentations': [code and _text(code) for code in codes],
                'areas': [code and int(coco_mask.area(code)) for code in codes],
            }
            annotations.append(annotation)
            for _ in range(rng.integers(0, 14)):
                length = video['length'] - int(rng.random() < 0.1)
                size = (HEIGHT, WIDTH) if rng.random() < 0.9 else (HEIGHT, WIDTH + 1)
                codes = [
                    _mask(rng, place, size)[1] if rng.random() < 0.9 else None
                    for _ in range(length)
                ]
                results.append(
                    {
                        'video_id': video['id'],
                        'category_id': label if rng.random() < 0.8 else int(rng.integers(1, 5)),
                        'score': round(rng.random(), 1),
                        'segmentations': [code and _text(code) for code in codes],
                    }
                )
    content = {
        'videos': videos,
        'categories': [{'id': one, 'name': f'c{one}'} for one in (3, 1, 2)],
        'annotations': annotations,
    }
    rng.shuffle(results)
    return content, results


def _official(content, results):
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = YTVIS(copy.deepcopy(content))
        evaluator = YTVISeval(ground_truth, ground_truth.loadRes(copy.deepcopy(results)), 'segm')
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@pytest.mark.parametrize('seed', range(12))
def test_everything_equals_mmdets_evaluation(seed):
    content, results = _random_set(seed)
    ours, theirs = evaluate_results(content, results), _official(content, results)
    np.testing.assert_allclose(ours.precision, theirs.eval['precision'], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.recall, theirs.eval['recall'], rtol=0, atol=1e-12)
    numbers = [-1 if math.isnan(one) else one for one in video_numbers(ours).values()]
    np.testing.assert_allclose(numbers, theirs.stats, rtol=0, atol=1e-12)


def test_uncompressed_and_polygon_masks_equal_compressed_ones():
    box = [[10, 20, 60, 20, 60, 90, 10, 90]]
    code = coco_mask.merge(coco_mask.frPyObjects(box, HEIGHT, WIDTH))
    flat = coco_mask.decode(code).ravel(order='F')
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    tracks = [
        found_track({'segmentations': [one, None], 'score': 1}, HEIGHT, WIDTH)
        for one in (box, {'size': [HEIGHT, WIDTH], 'counts': runs}, _text(code))
    ]
    assert (sequence_ious(tracks, tracks) == 1).all()
    assert {track.mean_area for track in tracks} == {float(flat.sum())}


def test_more_frames_than_pycocotools_counts_at_once():
    code = _text(coco_mask.encode(np.asfortranarray(np.eye(4, dtype=np.uint8))))
    track = found_track({'segmentations': [code] * 600, 'score': 1}, 4, 4)
    assert track.areas.sum() == 2400 and sequence_ious([track], [track])[0, 0] == 1


def test_pairs_are_given_up_only_below_the_mark():
    _, results = _random_set(3)
    tracks = [found_track(one, HEIGHT, WIDTH) for one in results]
    exact, early = sequence_ious(tracks, tracks), sequence_ious(tracks, tracks, 0.5)
    assert (early[exact >= 0.5] == exact[exact >= 0.5]).all()
    assert (early[exact < 0.5] < 0.5).all() and (early != exact).any()


def test_no_result_gives_zeros_and_no_annotation_nan():
    content, results = _random_set(1)
    numbers = video_numbers(evaluate_results(content, []))
    assert numbers['mAP'] == numbers['AR@100'] == 0
    content['annotations'] = []
    assert all(map(math.isnan, video_numbers(evaluate_results(content, results)).values()))


def test_unknown_categories_never_count():
    content, results = _random_set(2)
    more = [{**one, 'category_id': category, 'score': 2} for one in results for category in (0, 99)]
    both = [video_numbers(evaluate_results(content, some)) for some in (results + more, results)]
    np.testing.assert_equal(*both)


def test_the_table_leaves_out_classes_without_ground_truth():
    rows = {'cat': {'mAP': 0.5, 'AR@1': math.nan}, 'dog': {'mAP': math.nan, 'AR@1': math.nan}}
    lines = class_table(rows).splitlines()
    assert lines[1].split() == ['cat', '50.0', '-']
    assert lines[2] == '(1 classes without ground truth left out)'
