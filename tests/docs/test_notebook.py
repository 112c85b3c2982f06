"""The notebook is stored clean, names things that exist, and runs from first cell to last.

Running it takes about a minute of a processor, so that test is slow; ``make notebook`` is it.
"""

import ast
import re
import shlex
import shutil
import sys
import tempfile

import pytest

from isda_suite.cli import _COMMANDS
from tests.tools.running import environment

from .arguments import problem_of
from .documents import ROOT, Command

# With the packages of the documentation (requirements/docs.txt), as `make` installs them.
nbformat = pytest.importorskip('nbformat')

NOTEBOOK = ROOT / 'demo/tour.ipynb'
_OURS = 'python -m isda_suite '


@pytest.fixture(scope='module')
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def test_it_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    stored = [
        cell.id
        for cell in cells(notebook, 'code')
        if cell.outputs or cell.execution_count is not None or 'execution' in cell.metadata
    ]
    assert not stored, f'clear all outputs before committing; found some in {stored}'
    assert notebook.metadata.kernelspec.name == 'python3'


def test_its_code_is_python(notebook):
    code = cells(notebook, 'code')
    assert len(code) > 10
    for cell in code:
        ast.parse(cell.source, filename=cell.id)


def test_its_links_lead_somewhere(notebook):
    text = '\n'.join(cell.source for cell in cells(notebook, 'markdown'))
    links = re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', text)
    assert links
    missing = [link for link in links if not (NOTEBOOK.parent / link).is_file()]
    assert not missing


def test_its_commands_would_be_accepted(notebook, tmp_path, monkeypatch, capsys):
    text = ' '.join(cell.source for cell in cells(notebook, 'markdown'))
    lines = [line for line in re.findall(r'`([^`]+)`', text) if line.startswith(_OURS)]
    assert lines
    for line in lines:
        words = tuple(shlex.split(line))
        assert words[3] in _COMMANDS
        if len(words) > 4:  # else it only names the command
            command = Command(NOTEBOOK.name, 'dry-run', line, (), words)
            assert problem_of(command, tmp_path, monkeypatch, capsys) is None, line


@pytest.fixture
def runtime():
    """A folder for the sockets of a kernel; their names have to be short."""
    folder = tempfile.mkdtemp(prefix='nb')
    yield folder
    shutil.rmtree(folder)


def kernel_of_this_python(runtime):
    """Return a manager of kernels that asks no registered one, which may be another Python's."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            start = [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}']
            return KernelSpec(argv=start, display_name=kernel_name, language='python')

    return AsyncKernelManager(
        kernel_spec_manager=ThisPython(),
        transport='ipc',
        connection_file=f'{runtime}/kernel.json',
        ip=f'{runtime}/socket',
    )


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(notebook, tmp_path, runtime):
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        km=kernel_of_this_python(runtime),
        timeout=500,
        resources={'metadata': {'path': str(tmp_path)}},
    )
    variables = environment(IPYTHONDIR=runtime)
    variables.pop('MPLBACKEND', None)  # figures belong into the notebook
    client.execute(env=variables)
    outputs = [output for cell in cells(notebook, 'code') for output in cell.outputs]
    assert all(cell.execution_count for cell in cells(notebook, 'code'))
    assert sum('image/png' in one.get('data', {}) for one in outputs) >= 3
    said = ''.join(one.get('text', '') for one in outputs)
    assert 'segm_mAP' in said and '<SemanticResult' in said
    assert list(tmp_path.glob('demo_out/tour/found/*.json'))
