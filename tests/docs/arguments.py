"""Check that a command of the documents would be accepted, without doing what it says."""

import ast
import os
import re
import runpy
import stat
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

from isda_suite.cli import _COMMANDS
from isda_suite.engine.config_file import apply_options, find_config, parse_options, read_config

from .documents import ROOT

# Programs that are not ours: nothing but their name is checked.
OTHERS = {
    'cd',
    'compute-sanitizer',
    'cp',
    'curl',
    'export',
    'git',
    'ls',
    'mkdir',
    'pre-commit',
    'source',
    'tensorboard',
}
OTHER_MODULES = {'venv', 'pip', 'pytest'}
STARTERS = {'torchrun', 'mpirun'}  # the first word that ends with .py is the program they start
# What a reader makes: results of runs, and a configuration of their own.
MADE_BY_READER = ('work_dirs/', 'demo_out/', 'configs/isda/my_')


def problem_of(command, tmp_path, monkeypatch, capsys):
    """Say what is wrong with a command; None if nothing is."""
    first, *rest = command.words
    missing = [name for name, _ in command.variables if name not in _known_variables()]
    if missing:
        return f'nothing of the project reads the variable {", ".join(missing)}'
    if first in STARTERS:
        scripts = [i for i, word in enumerate(rest) if word.endswith('.py')]
        first, rest = 'python', rest[scripts[0] :] if scripts else []
    if Path(first).name == 'python':
        return _python(rest, monkeypatch, capsys)
    if first.endswith('.sh'):
        return _shell_script(first, rest, dict(command.variables), tmp_path, monkeypatch, capsys)
    if first == 'make':
        return _make(rest)
    if first == 'pip':
        return _pip(rest)
    return None if first in OTHERS else f'{first} is not a known program'


@cache
def _known_variables():
    files = [ROOT / 'Makefile', ROOT / 'setup.py', ROOT / 'tests/golden/files.py']
    for pattern in ('tools/*.sh', 'isda_suite/**/*.py'):
        files += ROOT.glob(pattern)
    text = '\n'.join(file.read_text(encoding='utf-8') for file in files)
    return set(re.findall(r'\b[A-Z][A-Z0-9_]+\b', text)) | {'CUDA_VISIBLE_DEVICES'}


def _python(words, monkeypatch, capsys):
    if words[:1] == ['-c']:
        ast.parse(words[1])
        return None
    if words[:2] == ['-m', 'isda_suite']:
        command, *rest = words[2:] or ['--help']
        if command in ('--help', '--version'):
            return None
        if command not in _COMMANDS:
            return f'isda_suite has no command {command}'
        return _script(_COMMANDS[command][0], rest, monkeypatch, capsys)
    if words[:2] == ['-m', 'isda_suite.ops']:
        return _parse(ROOT / 'isda_suite/ops/__main__.py', words[2:], monkeypatch, capsys)[1]
    if words[:1] == ['-m']:
        return None if words[1] in OTHER_MODULES else f'unknown module {words[1]}'
    if not words or not words[0].endswith('.py'):
        return 'python without a script'
    return _script(words[0], words[1:], monkeypatch, capsys)


def _script(script, words, monkeypatch, capsys):
    """Let the script read its arguments; then look for the configuration and its keys."""
    if not (ROOT / script).is_file():
        return f'there is no {script}'
    parsed, problem = _parse(ROOT / script, words, monkeypatch, capsys)
    if parsed is None:
        return problem
    config = getattr(parsed, 'config', None)
    if config is not None and not config.startswith(MADE_BY_READER):
        find_config(config)
        options = getattr(parsed, 'cfg_options', None)
        apply_options(read_config(config), parse_options(options))
    method = getattr(parsed, 'method', None)
    if method is not None and not (ROOT / f'isda_suite/methods/{method}/convert.py').is_file():
        return f'there are no name tables of the method {method}'
    return None


class _Parsed(BaseException):
    """Carries what a parser has read out of a script, before the script does anything."""


def _parse(path, words, monkeypatch, capsys):
    """Return the arguments as the script reads them, or what it says against them."""
    import argparse

    original = argparse.ArgumentParser.parse_args

    def stop(parser, args=None, namespace=None):
        raise _Parsed(original(parser, args, namespace))

    monkeypatch.setattr(sys, 'argv', [str(path), *words])
    package = 'isda_suite.ops.__main__' if path.name == '__main__.py' else None
    start = runpy.run_module if package else runpy.run_path
    try:
        content = start(package or str(path), run_name='checked')
        for reader in ('parse_args', '_parse'):
            if reader in content:  # with what the script itself checks after argparse
                return content[reader](), None
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
            start(package or str(path), run_name='__main__')
    except _Parsed as parsed:
        return parsed.args[0], None
    except SystemExit as end:
        text = capsys.readouterr().err.strip()
        return None, None if end.code in (0, None) else text.splitlines()[-1]
    return None, f'{path.name} reads no arguments'


def _shell_script(script, words, variables, tmp_path, monkeypatch, capsys):
    """Run the script with a stand-in for what it starts, and check what it would start."""
    if not (ROOT / script).is_file():
        return f'there is no {script}'
    note = tmp_path / 'started'
    note.unlink(missing_ok=True)
    stand_in = tmp_path / 'srun'
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{note}\n')
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': path, 'PYTHON': str(stand_in), **variables}
    done = subprocess.run(
        [ROOT / script, *words], env=environment, capture_output=True, text=True, timeout=60
    )
    if done.returncode or not note.is_file():
        return f'{script} ended with {done.returncode}: {done.stderr.strip()}'
    started = note.read_text().splitlines()
    index = next(i for i, word in enumerate(started) if word.endswith('.py'))
    tool = Path(started[index]).relative_to(ROOT)
    return _script(tool.as_posix(), started[index + 1 :], monkeypatch, capsys)


def make_targets():
    """Return the targets of the Makefile that people call."""
    text = (ROOT / 'Makefile').read_text(encoding='utf-8')
    return {
        target
        for line in re.findall(r'^([a-z][a-z -]*):(?!=)', text, re.MULTILINE)
        for target in line.split()
    }


def _make(words):
    text = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for word in words:
        name, is_variable, _ = word.partition('=')
        if is_variable and f'$({name})' not in text and f'$({name},' not in text:
            return f'the Makefile does not read {name}'
        if not is_variable and name not in make_targets():
            return f'the Makefile has no target {name}'
    return None


def _pip(words):
    for option, value in pairwise(words):
        if option == '-r' and not (ROOT / value).is_file():
            return f'there is no {value}'
    for extra in re.findall(r'\[(\w+)\]', ' '.join(words)):
        if f'optional-dependencies.{extra}' not in (ROOT / 'pyproject.toml').read_text():
            return f'the package has no extra {extra}'
    return None
