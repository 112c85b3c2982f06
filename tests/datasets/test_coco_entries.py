"""The check keeps next to nothing of an annotation and finds what it finds in the whole file."""

import itertools
import json
import math
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isda_suite.datasets.coco_checks import Expectation, check_coco
from isda_suite.datasets.coco_entries import read_entries, shrink
from isda_suite.datasets.coco_file import judge, read_coco
from isda_suite.datasets.errors import DataError
from tests.data.coco_fake.make import HEIGHT, SQUARE, WIDTH, content

ORDERS = list(itertools.permutations(['images', 'annotations', 'categories']))
EXPECTED = Expectation('x.json', ('cat', 'dog'), '', '', filter_empty=True)

NUMBERS = (
    st.integers(-20, 90)
    | st.floats(-20, 90)
    | st.sampled_from([math.nan, math.inf, 1.5e308, -1.5e308, 10**400])
)
ODD = st.none() | st.booleans() | st.text(max_size=3) | st.just({}) | st.just(10**400)
POLYGONS = st.lists(
    st.lists(NUMBERS, max_size=12)
    | st.sampled_from([SQUARE, [200.0 + value for value in SQUARE], [*SQUARE, 'x'], [*SQUARE] * 2])
    | ODD,
    max_size=3,
)
RLES = st.fixed_dictionaries(
    {},
    optional={
        'size': st.just([HEIGHT, WIDTH]) | ODD,
        'counts': st.lists(st.integers(-1, 9), max_size=4)
        | st.sampled_from([[0, HEIGHT * WIDTH], [HEIGHT * WIDTH], 'aP', '0P0', 'O'])
        | ODD,
    },
)
ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        'bbox': st.just([10, 8, 20, 20]) | st.lists(NUMBERS, min_size=3, max_size=4) | st.none(),
        'area': NUMBERS | st.none(),
        'iscrowd': st.integers(0, 1),
        'ignore': st.integers(0, 1),
        'segmentation': POLYGONS | RLES | ODD,
        'caption': st.just('not kept'),
    },
)
FILES = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {},
            optional={
                'id': st.integers(0, 200),
                'image_id': st.sampled_from([10, 11, 12, 10, 11, 77]),
                'category_id': st.sampled_from([5, 9, 5, 9, 6]),
            },
        ),
        ANNOTATIONS,
    ),
    max_size=5,
)


def outcome(function, *args):
    """Return what a function gives or, as some values are of no type that fits, how it fails."""
    try:
        return function(*args)
    except (TypeError, OverflowError) as error:
        return repr(error)


OUTLINES = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=4, max_size=6).map(
    lambda points: list(itertools.chain(*points))
)


@settings(max_examples=300, deadline=None)
@given(
    ANNOTATIONS | st.lists(OUTLINES, min_size=1, max_size=2).map(lambda o: {'segmentation': o}),
    st.integers(1, 60),
    st.integers(1, 60),
)
@example({'segmentation': [[*SQUARE, 5]]}, 60, 60)
@example({'segmentation': [[*SQUARE, 5, 10**400]]}, 60, 60)
@example({'segmentation': [[5, 5, 9, math.nan, 9, 9, 5, 9]]}, 60, 60)
@example({'segmentation': [[-1.5e308, 5, 1.5e308, 5, 9, 9, 5, 9]]}, 60, 60)
def test_a_shrunk_annotation_is_judged_as_the_whole_one(annotation, height, width):
    expected = outcome(judge, annotation, height, width)
    assert outcome(judge, shrink(annotation), height, width) == expected


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return tmp_path_factory.mktemp('coco') / 'x.json'


def table(read, path):
    return check_coco(read(path), EXPECTED).table()


@settings(max_examples=100, deadline=None)
@given(FILES, st.sampled_from(ORDERS), st.booleans())
def test_the_report_is_that_of_the_whole_file_in_any_order_of_its_lists(path, file, order, twice):
    whole = content()
    whole['annotations'] += [{**ids, **annotation} for ids, annotation in file]
    whole['images'] += [{**whole['images'][0], 'height': 0}] if twice else []
    path.write_text(json.dumps({key: whole[key] for key in order}))
    assert outcome(table, read_entries, path) == outcome(table, read_coco, path)


@pytest.mark.parametrize('order', ORDERS)
def test_no_mask_is_held(path, order):
    big = {'id': 1, 'image_id': 10, 'category_id': 5, 'segmentation': [[*SQUARE] * 100]}
    whole = content()
    whole['annotations'] = [{**big, 'id': index} for index in range(300)]
    path.write_text(json.dumps({key: whole[key] for key in order}))
    tracemalloc.start()
    try:
        held = read_entries(path)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(held['annotations']) == 300
    assert size < path.stat().st_size / 5


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda text: text[:-20], r'x\.json is not a whole json file: .*line 1'),
        (lambda text: text + ']', r'x\.json is not a whole json file: Extra data'),
        (lambda text: '{"images": [], ' + text[1:], r"file: Key 'images' stands twice"),
        (lambda text: text.replace('images', 'pictures', 1), '"images" is missing or no list'),
        (lambda text: '', r'x\.json is not a whole json file: Expecting value'),
    ],
)
def test_a_file_that_is_no_whole_coco_json_is_refused(path, spoil, message):
    path.write_text(spoil(json.dumps(content())))
    with pytest.raises(DataError, match=message):
        read_entries(path)
