"""Reading json piece by piece gives what json.loads gives, wherever the pieces are cut."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isda_suite.datasets.json_stream import load_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(['\ud83d', '"\\', '😀' * 5])  # the first: half of a pair, which json takes
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(['images', 'annotations', 'categories', 'info', 'ä€😀', ''])
CONTENTS = st.dictionaries(KEYS, st.lists(VALUES, max_size=5) | VALUES) | VALUES
LAYOUTS = st.fixed_dictionaries(
    {
        'indent': st.sampled_from([None, 0, 3, '\t']),
        'ensure_ascii': st.booleans(),
        'separators': st.sampled_from([(',', ':'), (', ', ': '), (' \r\n,', '\t:  ')]),
    }
)
WINDOWS = st.integers(1, 40)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return tmp_path_factory.mktemp('json') / 'content.json'


def stream(path, data, window):
    path.write_bytes(data)
    return load_json(path, {'images': same, 'annotations': same, 'ä€😀': same}, window)


def same(value):
    return value


def outcome(function, *args):
    # repr, because nan is not equal to itself and 1 is equal to True.
    try:
        return repr(function(*args))
    except ValueError as error:
        return 'twice' if 'stands twice' in str(error) else 'refused'


@settings(max_examples=200, deadline=None)
@given(CONTENTS, LAYOUTS, st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'utf-32']), WINDOWS)
def test_windows_change_nothing(path, content, layout, encoding, window):
    data = json.dumps(content, **layout).encode(encoding, 'surrogatepass')
    assert outcome(stream, path, data, window) == repr(json.loads(data))


@settings(max_examples=300, deadline=None)
@given(CONTENTS, LAYOUTS, WINDOWS, st.data())
def test_what_json_refuses_is_refused(path, content, layout, window, data):
    text = json.dumps(content, **layout).encode('utf-8', 'surrogatepass')
    cut = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 3) | st.just(len(text)))
    put = data.draw(st.sampled_from(['', ',', ']', '}', '[', '{', '"', ' 1', 'e+', '.', '\\', 'ü']))
    spoilt = text[:cut] + put.encode() + text[cut + removed :]
    found = outcome(stream, path, spoilt, window)
    assert found in (outcome(json.loads, spoilt), 'twice')


@pytest.mark.parametrize('window', [1, 5, 4096])
@pytest.mark.parametrize(
    'text',
    [
        '',
        '  \n ',
        '{"images": [',
        '{"images": [1, 2',
        '{"images":\n [1,\n  2 3]}',
        '{"images": [1, 2]}\n\n  x',
        '{"images": [tru]}',
        '{"images": [1e+]}',
        '{"images": ["ab',
        '{"images" [1]}',
        '{images: [1]}',
        '[1, 2] 3',
    ],
)
def test_the_place_of_a_fault_is_told_as_json_does(path, text, window):
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(ValueError, match='line') as caught:
        stream(path, text.encode(), window)
    assert str(caught.value).split(': line')[1] == str(expected.value).split(': line')[1]


def test_bytes_that_are_no_text_are_placed(path):
    with pytest.raises(ValueError, match='invalid start byte at byte 14'):
        stream(path, b'{"images": ["a\xff"]}', window=3)


@pytest.mark.parametrize('window', [1, 100])
def test_a_key_that_stands_twice_is_refused(path, window):
    with pytest.raises(ValueError, match=r"Key 'images' stands twice.*line 2"):
        stream(path, b'{"images": [1],\n"images": [2]}', window)


def test_of_an_element_only_what_is_kept_stays_and_the_rest_is_untouched(path):
    path.write_text('{"images": [1, [2, 3], {}], "other": [1], "annotations": {"a": 1}}')
    found = load_json(path, {'images': str, 'annotations': str})
    assert found == {'images': ['1', '[2, 3]', '{}'], 'other': [1], 'annotations': {'a': 1}}


def test_the_text_is_never_in_memory_as_a_whole(path):
    path.write_text(json.dumps({'images': ['x' * 2000] * 2000}))
    tracemalloc.start()
    try:
        load_json(path, {'images': len}, window=50_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10
