"""Every test that docs/reliability.md names exists."""

import re

import pytest

from tests.docs.documents import ROOT

NAMED = re.compile(r'`(tests/[\w/]+\.py)(?:::(\w+))?`')
PROMISES = [
    line
    for line in (ROOT / 'docs/reliability.md').read_text().splitlines()
    if line.startswith('| ')
    and line.count('|') >= 4
    and not line.startswith(('| promise', '| ---'))
]


@pytest.mark.parametrize('promise', PROMISES, ids=[line.split('|')[1].strip() for line in PROMISES])
def test_a_promise_names_tests_that_exist(promise):
    named = NAMED.findall(promise.split('|')[3])
    assert named, 'no test is named'
    for file, function in named:
        text = (ROOT / file).read_text()
        assert not function or f'def {function}(' in text, f'{file} has no {function}'
