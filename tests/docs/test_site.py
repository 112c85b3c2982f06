"""The site shows the documents of the repository as its own pages, and its links lead to them."""

import importlib.util
from pathlib import Path

import pytest

from .documents import ROOT


def load_extension():
    path = ROOT / 'docs/_extensions/repository_pages.py'
    spec = importlib.util.spec_from_file_location('repository_pages', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path):
    """A small repository: a page, a README that it links to, and one that this links to."""
    files = {
        'docs/page.md': '[room](../room/README.md#flow) [file](../room/a.py) [far](https://a.b/c.md)',
        'room/README.md': '# Room\n\n[page](../docs/page.md) ![drawn](drawn.png) [more](more.md)',
        'room/more.md': '# More\n\n```text\n[not a link](README.md)\n```\n[back](README.md)\n',
        'room/a.py': '',
        'room/drawn.png': '',
        'other.md': '# Nobody links here',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return load_extension().Repository(tmp_path / 'docs')


def test_what_can_be_reached_is_copied(repository):
    found = {file.relative_to(repository.root).as_posix() for file in repository.copy_linked()}
    assert found == {'room/README.md', 'room/more.md'}
    folder = repository.docs / 'repository'
    assert {file.name for file in folder.iterdir()} == {'room-README.md', 'room-more.md'}


def test_links_of_a_page_lead_to_the_copies(repository):
    page = repository.docs / 'page.md'
    assert repository.rewrite(page.read_text(), page) == (
        '[room](repository/room-README.md#flow) [file](../room/a.py) [far](https://a.b/c.md)'
    )


def test_links_of_a_copy_lead_to_what_the_original_meant(repository):
    repository.copy_linked()
    copy = (repository.docs / 'repository/room-README.md').read_text()
    assert '[page](../page.md) ![drawn](../../room/drawn.png) [more](room-more.md)' in copy


def test_blocks_are_left_as_they_are(repository):
    repository.copy_linked()
    copy = (repository.docs / 'repository/room-more.md').read_text()
    assert copy.endswith(
        '# More\n\n```text\n[not a link](README.md)\n```\n[back](room-README.md)\n'
    )


def test_a_link_to_a_folder_becomes_text(repository):
    source = repository.root / 'room/README.md'
    assert repository.rewrite('see [all](../room) and [none](absent.md)', source) == (
        'see all and [none](absent.md)'
    )


def test_copies_of_files_without_links_are_removed(repository):
    repository.copy_linked()
    Path(repository.docs / 'page.md').write_text('nothing')
    assert repository.copy_linked() == []
    assert not list((repository.docs / 'repository').iterdir())


def test_the_documents_are_built_strictly():
    """The build is the check of links and anchors, so CI runs it and a warning is an error."""
    (recipe,) = [
        line for line in (ROOT / 'Makefile').read_text().splitlines() if 'sphinx-build' in line
    ]
    assert ' -W ' in recipe
    assert 'make docs' in (ROOT / '.ci/run').read_text().splitlines()
    assert 'suppress_warnings' not in (ROOT / 'docs/conf.py').read_text()
