"""Who may import whom: the folders of the package form layers, and rooms do not see each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'isda_suite'
EVERYWHERE = {'registry', 'resources', '__version__'}
ROOMS = {'ops', 'layers', 'losses', 'matchers', 'checkpoint'}
BELOW_THE_TOP = {
    *ROOMS, 'compat', 'datasets', 'engine', 'methods', 'metrics', 'visualization', 'apis',
}  # fmt: skip
MAY_IMPORT = {
    'ops': set(),
    'layers': {'ops'},
    'losses': {'ops'},
    'matchers': {'losses'},
    'datasets': set(),
    'metrics': set(),
    'visualization': set(),
    'checkpoint': set(),
    'methods': ROOMS,
    'compat': {'ops'},
    'engine': {'checkpoint', 'datasets.checks', 'datasets.errors', 'compat'},
    'export': {'ops', 'layers', 'checkpoint', 'engine'},
    'apis': {*BELOW_THE_TOP, 'export'},
    'cli': {*BELOW_THE_TOP, 'export'},
    '__main__': {'cli'},
    # The import hook; public names are loaded by text, on demand, and are imported for type
    # checkers alone. That it stays so, test_package.py tests.
    '__init__': {'compat', 'apis.results', 'apis.segmenter', 'ops'},
    'registry': set(),
    'resources': set(),
}


def imported_modules(tree: ast.AST) -> list[str]:
    """Every module or name imported anywhere in the file, also inside functions, as written."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = '.' * node.level + (node.module or '')
            joint = '' if start.endswith('.') else '.'
            names += [f'{start}{joint}{alias.name}' for alias in node.names]
    return names


def broken_rules(file: str, source: str) -> list[str]:
    """Say which imports of a file (path inside the package) the table does not allow."""
    folder, *inner = file.removesuffix('.py').split('/')
    broken = []
    for name in imported_modules(ast.parse(source)):
        parts = name.split('.')
        if name.startswith('..'):
            broken.append(f'{file}: {name}: write the full name across folders')
        elif parts[0] != 'isda_suite' or (parts[1:2] == [folder] and folder != 'methods'):
            continue
        elif len(parts) == 1 or parts[1] in EVERYWHERE:  # a bare import installs the import hook
            continue
        elif folder == 'methods' and parts[1:2] == ['methods']:
            # methods/__init__.py lists the rooms, for the registry
            if parts[2:3] != inner[:1] and inner != ['__init__']:
                broken.append(f'{file}: {name}: a room imports another room')
        elif not any(parts[1:][: len(a)] == a for a in map(_split, MAY_IMPORT[folder])):
            broken.append(f'{file}: {name}: not among {sorted(MAY_IMPORT[folder])}')
    return broken


def _split(name: str) -> list[str]:
    return name.split('.')


def package_files() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py'))


def test_every_import_of_the_package_is_allowed():
    files = [file for file in package_files() if not file.startswith('_resources/')]
    assert len(files) > 30
    broken = [b for file in files for b in broken_rules(file, (PACKAGE / file).read_text())]
    assert not broken, '\n'.join(broken)


@pytest.mark.parametrize(
    'file, line',
    [
        ('ops/attention.py', 'import isda_suite.layers.encoder'),
        ('ops/attention.py', 'from isda_suite import layers'),
        ('losses/dice.py', 'def f():\n    from isda_suite.matchers import M'),
        ('matchers/m.py', 'from isda_suite.ops import x'),
        ('datasets/coco.py', 'from isda_suite.apis.train import train'),
        ('layers/encoder.py', 'from ..ops import attention'),
        ('methods/isda/head.py', 'from isda_suite.methods.iuq.head import Head'),
        ('methods/isda/head.py', 'from isda_suite.methods import iuq'),
        ('methods/isda/head.py', 'from isda_suite.engine.launch import launch'),
        ('engine/launch.py', 'from isda_suite.datasets.sample import write'),
        ('compat/gloo.py', 'from isda_suite.engine import launch'),
        ('engine/launch.py', 'import isda_suite.cli'),
    ],
)
def test_a_forbidden_import_is_caught(file, line):
    assert len(broken_rules(file, line)) == 1


@pytest.mark.parametrize(
    'file, line',
    [
        ('ops/attention.py', 'import torch\nfrom .reference import f\nfrom . import info'),
        ('ops/attention.py', 'from isda_suite.ops.reference import f'),
        ('layers/encoder.py', 'from isda_suite.ops import attention'),
        ('methods/isda/head.py', 'from isda_suite.methods.isda.loss import Loss'),
        ('methods/isda/head.py', 'from isda_suite.registry import MODELS'),
        ('methods/__init__.py', 'from isda_suite.methods import isda'),
        ('apis/performance/speed.py', 'import isda_suite'),
        ('checkpoint/save.py', 'from isda_suite import __version__'),
        ('engine/launch.py', 'from isda_suite.datasets.checks import check'),
        ('apis/train.py', 'from isda_suite.methods.isda import ISDA'),
        ('datasets/coco.py', 'from isda_suite_other import x'),
    ],
)
def test_an_allowed_import_passes(file, line):
    assert broken_rules(file, line) == []
