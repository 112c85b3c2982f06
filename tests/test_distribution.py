"""What the wheel and the source archive hold, and that a wheel works without a checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.tools.running import ROOT

FOLDERS = ('isda_suite', 'configs', 'csrc', 'tools', 'demo', 'requirements')
RESOURCES = ('configs', 'csrc', 'tools', 'demo')
BUILD = """
import setuptools.build_meta as backend
backend.build_sdist('out')
backend.build_wheel('out')
"""


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Build both from a copy, so that no build folder appears in the checkout."""
    copy = tmp_path_factory.mktemp('source')
    ignore = shutil.ignore_patterns(
        '__pycache__', '*.so', '_build.json', '*.egg-info', '_resources'
    )
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy2(file, copy)
    done = subprocess.run(
        [sys.executable, '-c', BUILD],
        cwd=copy,
        env={**os.environ, 'ISDA_BUILD_OPS': '0'},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return copy, next(copy.glob('out/*.whl')), next(copy.glob('out/*.tar.gz'))


def files_below(copy, folders):
    found = [p for name in folders for p in (copy / name).rglob('*') if p.is_file()]
    return {p.relative_to(copy).as_posix() for p in found if p.suffix != '.pyc'}


def test_the_wheel_carries_the_package_and_its_resources(built):
    copy, wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith('/METADATA'))).decode()
        scripts = [i for i in archive.infolist() if i.filename.endswith('_train.sh')]
    assert files_below(copy, ['isda_suite']) <= names
    assert {f'isda_suite/_resources/{n}' for n in files_below(copy, RESOURCES)} <= names
    assert 'isda_suite/_resources/model-index.yml' in names
    assert 'isda_suite/py.typed' in names and 'isda_suite/ops/_build.json' in names
    assert not [n for n in names if n.startswith(('tests/', 'build/')) or n.endswith('.pyc')]
    assert all(one.external_attr >> 16 & 0o111 for one in scripts) and len(scripts) == 2
    for line in (ROOT / 'requirements/runtime.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            assert f'Requires-Dist: {line.split(">")[0]}' in metadata
    assert 'License-Expression: Apache-2.0' in metadata


def test_the_source_archive_can_be_built_again(built):
    copy, _, archive = built
    with tarfile.open(archive) as content:
        names = {name.partition('/')[2] for name in content.getnames()}
    assert files_below(copy, FOLDERS) <= names
    assert {
        'setup.py',
        'pyproject.toml',
        'LICENSE',
        'README.md',
        'CHANGELOG.md',
        'Makefile',
        'model-index.yml',
    } <= names


def test_a_wheel_works_from_any_folder(built, tmp_path):
    _, wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / 'installed')
    (tmp_path / 'elsewhere').mkdir()

    def call(*words):
        return subprocess.run(
            [sys.executable, '-m', *words],
            cwd=tmp_path / 'elsewhere',
            env={**os.environ, 'PYTHONPATH': str(tmp_path / 'installed')},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    shown = call('isda_suite', 'print-config', 'isda_r50_3x_coco')
    assert shown.returncode == 0 and 'num_queries=300' in shown.stdout, shown.stderr
    wrong = call('isda_suite', 'train', 'isda_r50_3x_coco')
    assert wrong.returncode == 2 and 'data/coco/' in wrong.stderr
    operators = call('isda_suite.ops')
    assert operators.returncode == 0
    assert 'left out when installing (ISDA_BUILD_OPS=0)' in operators.stdout


def test_the_lock_holds_every_requirement_at_a_version_that_fits():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    def read(name):
        lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith('#')]

    pinned = {
        canonicalize_name(one.name): next(iter(one.specifier)).version for one in read('lock')
    }
    for wanted in [*read('build'), *read('runtime'), *read('test')]:
        name = canonicalize_name(wanted.name)
        if name in ('torch', 'torchvision'):  # the Makefile pins the pair
            continue
        assert name in pinned, name
        assert wanted.specifier.contains(pinned[name]), wanted
