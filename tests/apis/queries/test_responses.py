import re
from dataclasses import replace

import pytest
import torch

from isda_suite.apis.queries.recorded_images import mask_quality, record_images, responses_to
from isda_suite.apis.queries.responses import (
    Selection,
    Watched,
    choose_queries,
    query_of,
    show_query,
)
from isda_suite.engine.errors import ConfigError
from tests.apis.drawn_rectangles import DrawnRectangles
from tests.methods.iuq.build import build_plain

CLASSES = ('red', 'green', 'blue')


@pytest.fixture
def watched():
    """Return two models of different weights."""
    return [
        Watched(name, *record_images(build_plain('solov2', seed), DrawnRectangles(), range(4), 8))
        for seed, name in enumerate(('plain', 'iuq'))
    ]


def test_instances_are_shown_that_the_models_together_find_best(watched):
    chosen = choose_queries(watched, Selection(num_images=2, queries=1))
    assert [place for place, _ in chosen] == [0, 1]
    for place, instance in chosen:
        sums = sum(
            mask_quality(one.adapter, one.images[place], one.images[place].best) for one in watched
        )
        assert instance == int(sums.argmax())


def test_images_without_instances_are_passed_over_unless_asked_for(watched):
    chosen = choose_queries(watched, Selection(num_images=9, queries=9))
    assert len(chosen) == 2 + 3 + 1
    with pytest.raises(ConfigError, match='no query was matched to an instance in the images 3'):
        choose_queries(watched, Selection(images=(3,)))


def test_an_instance_that_does_not_exist_is_refused(watched):
    assert choose_queries(watched, Selection(images=(1,), instances=(2, 0))) == [(1, 2), (1, 0)]
    with pytest.raises(ConfigError, match=r'instance 3, -1: image 1 \(1.jpg\) has 3 instances'):
        choose_queries(watched, Selection(images=(1,), instances=(3, 2, -1)))


def test_a_row_shows_each_model_on_its_own_and_on_other_images(watched):
    row, about = show_query(watched, 1, 2, Selection(others=2), CLASSES)
    assert row.caption == '1: blue 2' and row.mask.sum() == (90 - 64) * (40 - 8)
    assert about['others'] == [2, 3] and about['file'] == '1.jpg'
    assert [len(block) for block in row.blocks] == [3, 3]
    for block in row.blocks:
        assert [panel.picture.shape[:2] for panel in block] == [(128, 96), (100, 120), (64, 64)]
        for panel in block:
            assert panel.response.shape == panel.picture.shape[:2]
            told = float(re.search(r'mean (\S+),', panel.caption)[1])
            assert told == pytest.approx(panel.response.mean(), abs=0.02)  # of cells, of pixels
    first, second = (one['foreign']['mean'] for one in about['models'])
    assert first != second and 0 < first < 1


def test_no_more_others_are_shown_than_there_are(watched):
    row, about = show_query(watched, 0, 0, Selection(others=50), CLASSES)
    assert about['others'] == [1, 2, 3] and len(row.blocks[0]) == 4


def test_the_hardest_others_are_answered_most_strongly(watched):
    _, about = show_query(watched, 0, 0, Selection(others=3, hardest=True), CLASSES)
    strengths = []
    for index in about['others']:
        strength = 0.0
        for one in watched:
            record, image = query_of(one.adapter, one.images[0], 0), one.images[index]
            p = responses_to(one.adapter, record, image)[0]
            strength += float(p[image.content(p.shape)].mean())
        strengths.append(strength)
    assert strengths == sorted(strengths, reverse=True) and len(set(strengths)) == 3


def test_a_model_without_a_query_for_an_instance_says_so(watched):
    second = watched[1].images[0]
    second.best = watched[1].adapter.select(second.best, (second.best.gt_inds != 0).nonzero()[:, 0])
    assert (0, 0) not in choose_queries(watched, Selection(queries=9))
    row, about = show_query(watched, 0, 0, Selection(), CLASSES)
    assert all(panel.response is None for panel in row.blocks[1])
    assert 'no query' in row.blocks[1][0].caption
    assert about['models'][1]['foreign']['mean'] is None
    assert about['models'][0]['foreign']['mean'] is not None


def test_a_query_that_is_silent_elsewhere_shows_in_the_numbers(watched):
    """Scaled down, kernels answer one half everywhere; so a clear difference must be seen."""
    one = watched[0]
    image = one.images[0]
    loud = replace(image.best, queries=image.best.queries * 0)
    image.best = loud
    _, about = show_query([one], 0, 0, Selection(), CLASSES)
    for name in ('own_instance', 'own_rest', 'foreign', 'foreign_instances'):
        assert about['models'][0][name]['mean'] == 0.5
        assert about['models'][0][name]['share_above_half'] == 0
    assert torch.equal(query_of(one.adapter, image, 0).queries, loud.queries[:1])
