"""Links and pictures of the documents are there, and nothing is left to be filled in."""

import re

import pytest

from .documents import DOCUMENTS, ROOT, name_of, split_document

each_document = pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
_LINK = re.compile(r'!?\[[^\]]*\]\(<?([^)\s>]+)>?\)|<(?:img|a)\s[^>]*(?:src|href)="([^"]+)"')
_UNFINISHED = re.compile(r'\b([A-Z]+-FILLS|TODO|TBD|FIXME)\b')


def links_of(document):
    prose = re.sub(r'`[^`]*`', '', '\n'.join(split_document(document)[1]))
    return [first or second for first, second in _LINK.findall(prose)]


def anchors_of(document):
    """Return the anchors that hosts of repositories give to headings."""
    headings = [line for line in split_document(document)[1] if re.match(r'#{1,6} ', line)]
    texts = [line.lstrip('#').strip().lower() for line in headings]
    return {re.sub(r'[^\w\- ]', '', text).replace(' ', '-') for text in texts}


@each_document
def test_links_lead_somewhere(document):
    broken = []
    for link in links_of(document):
        if re.match(r'[a-z]+:', link):
            continue  # other hosts: no test touches the network
        path, _, anchor = link.partition('#')
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(link)
        elif anchor and anchor not in anchors_of(target):
            broken.append(link)
    assert not broken, f'{name_of(document)}: {broken}'


@pytest.mark.parametrize('folder', ['docs', 'docs/api', 'docs/tutorials'])
def test_every_page_is_in_the_table_of_contents(folder):
    contents = (ROOT / folder / 'index.md').read_text(encoding='utf-8').splitlines()
    pages = {file.stem for file in (ROOT / folder).glob('*.md')} - {'index'}
    assert pages and pages <= {line.strip() for line in contents}


@pytest.mark.parametrize(
    'document', [*DOCUMENTS, *ROOT.glob('configs/*/metafile.yml')], ids=name_of
)
def test_nothing_is_left_to_be_filled_in(document):
    lines = document.read_text(encoding='utf-8').splitlines()
    left = [number for number, line in enumerate(lines, 1) if _UNFINISHED.search(line)]
    assert not left, f'{name_of(document)}: still to be filled in, lines {left}'


def test_pictures_are_small():
    pictures = [file for file in (ROOT / 'docs/assets').glob('*') if file.is_file()]
    sizes = {file.name: file.stat().st_size for file in pictures}
    assert all(size <= 500_000 for size in sizes.values()), sizes
    assert sum(sizes.values()) <= 5_000_000
