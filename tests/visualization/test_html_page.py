"""A page of one file: nothing is loaded, nothing runs, everything from data is shown as text."""

import base64
from html.parser import HTMLParser

import cv2
import numpy as np

from isda_suite.visualization.html_page import folded, page, paragraph, picture, row, table

EVIL = '"><script>alert(1)</script><img src=http://x.invalid/a.png onerror=alert(2)>&lt;'


class Tags(HTMLParser):
    """All tags with their attributes, and the text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def assert_self_contained(content):
    """Nothing of a page comes from elsewhere or is a program."""
    for tag, attributes in Tags(content).tags:
        assert tag not in ('script', 'link', 'iframe', 'object', 'embed', 'base', 'form'), tag
        assert not [name for name in attributes if name.startswith('on')], attributes
        for name in ('src', 'href', 'srcset', 'poster', 'action'):
            assert attributes.get(name, '#').startswith(('data:image/', '#')), (tag, name)
        assert 'url(' not in attributes.get('style', '')
    assert '@import' not in content


def test_text_from_data_stays_text_wherever_it_stands():
    image = np.zeros((4, 6, 3), np.uint8)
    parts = [
        paragraph(EVIL),
        table([EVIL], [[EVIL], [0.5]], bars=(0,)),
        row(picture(image, EVIL)),
        folded(EVIL, EVIL),
    ]
    content = page(EVIL, EVIL, [(EVIL, parts)])
    assert_self_contained(content)
    assert Tags(content).text.count(EVIL) == 11
    assert [tag for tag, _ in Tags(content).tags].count('img') == 1


def test_a_picture_lies_in_the_page():
    image = np.zeros((30, 60, 3), np.uint8)
    image[..., 0] = 200
    [(_, found)] = [one for one in Tags(picture(image, 'red', max_width=20, quality=0)).tags if
                    one[0] == 'img']  # fmt: skip
    kind, _, content = found['src'].partition(',')
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert kind == 'data:image/png;base64' and found['alt'] == 'red'
    assert decoded.shape == (10, 20, 3) and decoded[0, 0].tolist() == [0, 0, 200]


def test_numbers_have_bars_and_nan_is_a_dash():
    content = table(['a', 'b'], [[50.0, float('nan')], [250.0, 7]], bars=(0,))
    assert '50.0%' in content and '100.0%' in content and '&ndash;' in content
    assert '>7</td>' in content and '>50.00</td>' in content
