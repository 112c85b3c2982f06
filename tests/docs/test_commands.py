"""Every command in the documents works, as far as this machine can tell.

A block of commands says in its info string what it takes: ``run`` is executed here; ``dry-run``,
``needs-gpu`` and ``needs-network`` are read by the program they call, which then does nothing;
``make`` names targets, which only CI runs.
"""

import ast
import os
import shutil
import subprocess
import sys

import pytest

from tests.tools.running import environment

from .arguments import make_targets, problem_of
from .documents import DOCUMENTS, LABELS, ROOT, SHELL, blocks_of, commands_of, name_of

each_document = pytest.mark.parametrize('document', DOCUMENTS, ids=name_of)
_JOINING = {'|', '||', '&&', '&', ';', '>', '>>', '<'}


@each_document
def test_every_block_says_what_it_is(document):
    wrong = [
        f'{block.place}: {block.info!r}'
        for block in blocks_of(document)
        if not block.language
        or (block.language in SHELL and (block.language != 'bash' or block.label not in LABELS))
    ]
    assert not wrong, f'{wrong}: write ```bash and one of {", ".join(LABELS)}, or the language'


@each_document
def test_every_command_would_be_accepted(document, tmp_path, monkeypatch, capsys):
    wrong = []
    for command in commands_of(document):
        joined = _JOINING & set(command.words)
        problem = f'one command a line, without {joined}' if joined else None
        if (command.words[0] == 'make') != (command.label == 'make'):
            problem = 'make stands in blocks labelled make, and alone there'
        problem = problem or problem_of(command, tmp_path, monkeypatch, capsys)
        if problem:
            wrong.append(f'{command.place}: {command.line}: {problem}')
    assert not wrong, '\n'.join(wrong)


@each_document
def test_python_blocks_are_python(document):
    for block in blocks_of(document):
        if block.language == 'python':
            ast.parse(block.text, filename=block.place)


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder in which commands may write what they like, with the repository's own files."""
    root = tmp_path_factory.mktemp('checkout')
    for folder in ('configs', 'tools', 'demo'):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns('__pycache__'))
    programs = root / 'bin'
    programs.mkdir()
    python = programs / 'python'
    # Not a link: Python finds its virtual environment from where it is called.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return root


_done = set()


@each_document
def test_commands_labelled_run_do_run(document, workspace):
    path = f'{workspace / "bin"}{os.pathsep}{os.environ["PATH"]}'
    for command in commands_of(document):
        if command.label != 'run' or command.line in _done:
            continue
        done = subprocess.run(
            ['bash', '-euo', 'pipefail', '-c', command.line],
            cwd=workspace,
            env=environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f'{command.place}: {command.line}\n{done.stdout}{done.stderr}'
        _done.add(command.line)


def test_the_documents_hold_commands_of_every_kind():
    """An empty search must not look like success."""
    found = {command.label for document in DOCUMENTS for command in commands_of(document)}
    assert found == set(LABELS)
    assert {'demo', 'test', 'env', 'lint'} <= make_targets()


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('python tools/train.py isda_sample --epochs 3', 'unrecognized arguments: --epochs 3'),
        ('python tools/absent.py', 'there is no tools/absent.py'),
        ('tools/dist_train.sh isda_sample 2 --apm', 'unrecognized arguments: --apm'),
        ('make dmeo', 'no target dmeo'),
        ('make demo COLOUR=1', 'does not read COLOUR'),
        ('python -m isda_suite trian isda_sample', 'no command trian'),
        ('ISDA_NO_SUCH=1 python tools/train.py isda_sample', 'ISDA_NO_SUCH'),
        ('pip install -r requirements/absent.txt', 'no requirements/absent.txt'),
    ],
)
def test_a_wrong_command_is_found(line, said, tmp_path, monkeypatch, capsys):
    from .documents import Block, _commands_of_block

    [command] = _commands_of_block(Block('here', 'bash dry-run', line))
    assert said in str(problem_of(command, tmp_path, monkeypatch, capsys))
