"""Every message that docs/troubleshooting.md quotes is one that the package raises."""

import ast
import re
from functools import cache
from itertools import pairwise

import pytest

from .documents import ROOT, split_document

PAGE = ROOT / 'docs/troubleshooting.md'
_VALUE = '\0'  # stands for what is put into an f-string


def quoted_messages():
    """Return the messages in the first column of the page's tables."""
    rows = [line for line in split_document(PAGE)[1] if line.startswith('| `')]
    return [re.match(r'\| `([^`]+)` \|', row)[1] for row in rows]


def text_of(node):
    """Return the text of a string or f-string, joined as Python joins it; None of other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = node.values
        return ''.join(p.value if isinstance(p, ast.Constant) else _VALUE for p in parts)
    return None


def docstrings_of(tree):
    """Return the nodes of bare strings, which are no messages."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@cache
def texts_of_the_package():
    found = set()
    for file in sorted((ROOT / 'isda_suite').rglob('*.py')):
        tree = ast.parse(file.read_text(encoding='utf-8'))
        left_out = docstrings_of(tree)
        nodes = (node for node in ast.walk(tree) if id(node) not in left_out)
        found |= {text for node in nodes if (text := text_of(node)) and ' ' in text}
    return found


def holds(text, parts):
    """Say whether a text has the parts in their order, with a value between any two."""
    place = text.find(parts[0])
    for before, part in pairwise(parts):
        if place < 0:
            return False
        end = place + len(before)
        place = text.find(part, end + 1)
        if place >= 0 and not re.search(f'[{_VALUE}…]', text[end:place]):
            return False
    return place >= 0


def is_raised(message):
    """Say whether one text of the package is the message, but for the values in it."""
    parts = message.split('…')
    return any(holds(text, parts) for text in texts_of_the_package())


@pytest.mark.parametrize('message', quoted_messages())
def test_a_quoted_message_is_raised(message):
    assert len(re.sub(r'[^A-Za-z]', '', message)) >= 10, 'too short to be told from others'
    assert is_raised(message)


def test_the_page_quotes_messages_of_every_section():
    lines = [line for line in split_document(PAGE)[1] if line.startswith(('## ', '| `'))]
    sections = ''.join('#' if line.startswith('#') else '|' for line in lines).split('#')[1:]
    assert all(len(rows) >= 5 for rows in sections) and len(sections) >= 5


def test_a_message_nobody_raises_is_found():
    assert not is_raised('checkpoint … is full (0 bytes): copy or download it again')
