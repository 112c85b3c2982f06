"""The documents of the project and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    'README.md',
    'CONTRIBUTING.md',
    'docs/**/*.md',
    'csrc/README.md',
    'isda_suite/methods/*/README.md',
    'configs/*/README.md',
)
GENERATED = ('docs/_build/', 'docs/repository/')  # by the build of the site
DOCUMENTS = sorted(
    file
    for file in {file for pattern in PATTERNS for file in ROOT.glob(pattern)}
    if not file.relative_to(ROOT).as_posix().startswith(GENERATED)
)

SHELL = ('bash', 'sh', 'shell', 'console', 'zsh')
LABELS = ('run', 'dry-run', 'needs-gpu', 'needs-network', 'make')
_FENCE = re.compile(r'^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<info>.*)$')
_ASSIGNMENT = re.compile(r'([A-Z][A-Z0-9_]*)=(.*)', re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, its info string, its text."""

    place: str
    info: str
    text: str

    @property
    def language(self):
        return self.info.split(maxsplit=1)[0] if self.info else ''

    @property
    def label(self):
        return self.info.removeprefix(self.language).strip()


@dataclass(frozen=True)
class Command:
    """One command line of a block: variables set for it, and its words."""

    place: str
    label: str
    line: str
    variables: tuple[tuple[str, str], ...]
    words: tuple[str, ...]


def name_of(file):
    return file.relative_to(ROOT).as_posix()


def split_document(file):
    """Return the fenced blocks of a document, and its lines outside of them."""
    blocks, prose = [], []
    opening, start, body = None, 0, []
    for number, line in enumerate(file.read_text(encoding='utf-8').splitlines(), 1):
        fence = _FENCE.match(line)
        if opening is None and fence:
            opening, start, body = fence, number, []
        elif opening is None:
            prose.append(line)
        elif fence and fence['marks'].startswith(opening['marks']) and not fence['info'].strip():
            place = f'{name_of(file)}:{start}'
            blocks.append(Block(place, opening['info'].strip(), '\n'.join(body)))
            opening = None
        else:
            body.append(line[len(opening['indent']) :])
    assert opening is None, f'{name_of(file)}:{start}: the block is not closed'
    return blocks, prose


def blocks_of(file):
    return split_document(file)[0]


def commands_of(file):
    """Return the commands of all shell blocks of a document."""
    return [
        command
        for block in blocks_of(file)
        if block.language in SHELL
        for command in _commands_of_block(block)
    ]


def _commands_of_block(block):
    for line in re.sub(r'\\\n\s*', ' ', block.text).splitlines():
        words = shlex.split(line, comments=True)
        variables = []
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            variables.append(found.groups())
            words.pop(0)
        if words:
            yield Command(block.place, block.label, line, tuple(variables), tuple(words))
