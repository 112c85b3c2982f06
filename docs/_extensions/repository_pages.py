"""Make pages of the site from the Markdown files of the repository that its pages link to.

The documents are written for the repository: they link to the READMEs of rooms and configurations,
which lie outside of Sphinx's source folder. Each of these, and what they link to in turn, is copied
to ``docs/repository`` before pages are looked for; links are rewritten on the way, in the copies
and, in memory, in the pages themselves. Links to other files become downloads, those to folders
become text.
"""

import os
import re
from pathlib import Path
from typing import Any

COPIES = 'repository'
_LINK = re.compile(r'(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)')
_FENCED = re.compile(r'(^ *(?P<marks>`{3,}|~{3,}).*?^ *(?P=marks) *$)', re.MULTILINE | re.DOTALL)


class Repository:
    """Where files of the repository stand in the site.

    Args:
        docs: The source folder of the site.
    """

    def __init__(self, docs: Path) -> None:
        self.docs = docs.resolve()
        self.root = self.docs.parent

    def page_of(self, file: Path) -> Path:
        """Return the page that shows a Markdown file: itself, or its copy."""
        if file.is_relative_to(self.docs):
            return file
        return self.docs / COPIES / '-'.join(file.relative_to(self.root).parts)

    def rewrite(self, text: str, source: Path) -> str:
        """Let the links of a document lead to the same files from the place of its page.

        Args:
            text: The document.
            source: Where it lies in the repository.
        """
        parts = _FENCED.split(text)  # prose, block, its marks, prose, …
        for place in range(0, len(parts), 3):
            parts[place] = _LINK.sub(lambda link: self._link(link, source), parts[place])
        return ''.join(part for place, part in enumerate(parts) if place % 3 != 2)

    def _link(self, link: re.Match[str], source: Path) -> str:
        picture, label, path, anchor = link.groups()
        target = (source.parent / path).resolve()
        if ':' in path or not target.is_relative_to(self.root) or not target.exists():
            return link[0]
        if target.is_dir():
            return label
        page = self.page_of(target) if target.suffix == '.md' else target
        written = os.path.relpath(page, self.page_of(source).parent)
        return f'{picture}[{label}]({written}{anchor or ""})'

    def linked(self, file: Path) -> set[Path]:
        """Return the Markdown files outside of the site that a document links to."""
        prose = ''.join(_FENCED.split(file.read_text(encoding='utf-8'))[::3])
        found = {(file.parent / link[2]).resolve() for link in _LINK.findall(prose)}
        return {
            path
            for path in found
            if path.suffix == '.md'
            and path.is_file()
            and path.is_relative_to(self.root)
            and not path.is_relative_to(self.docs)
        }

    def copy_linked(self) -> list[Path]:
        """Write the copies of all documents that can be reached, and return the originals."""
        pages = [
            page
            for page in self.docs.rglob('*.md')
            if page.relative_to(self.docs).parts[0] not in (COPIES, '_build')
        ]
        waiting = sorted(set().union(*map(self.linked, pages)))
        copied: list[Path] = []
        while waiting:
            file = waiting.pop()
            copied.append(file)
            waiting += sorted(self.linked(file) - {*copied, *waiting})
            self._copy(file)
        wanted = {self.page_of(file) for file in copied}
        for old in (self.docs / COPIES).glob('*.md'):
            if old not in wanted:
                old.unlink()
        return copied

    def _copy(self, file: Path) -> None:
        page = self.page_of(file)
        text = '---\norphan: true\n---\n' + self.rewrite(file.read_text(encoding='utf-8'), file)
        if page.is_file() and page.read_text(encoding='utf-8') == text:
            return  # else Sphinx would read it again
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding='utf-8')


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    repository = Repository(Path(app.srcdir))

    def rewrite_page(_: Any, name: str, content: list[str]) -> None:
        if not name.startswith(f'{COPIES}/'):
            content[0] = repository.rewrite(content[0], repository.docs / f'{name}.md')

    app.connect('builder-inited', lambda _: repository.copy_linked())
    app.connect('source-read', rewrite_page)
    return {'parallel_read_safe': True, 'version': '1'}
