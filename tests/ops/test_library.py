"""A library that is missing, damaged or foreign: explained, never fatal unless asked for."""

import json
import os
import subprocess
import sys

import pytest

from isda_suite.ops.information import OPERATORS
from isda_suite.ops.library import _SCHEMAS, LIBRARY, read_record
from tests.ops.operands import needs_library

PROGRAM = """
import torch
from isda_suite.ops import info, ms_deform_attn
value = torch.ones(1, 4, 1, 2, requires_grad=True)
locations, weights = torch.full((1, 1, 1, 1, 1, 2), 0.5), torch.ones(1, 1, 1, 1, 1)
out = torch.ops.isda_suite.ms_deform_attn(
    value, torch.tensor([[2, 2]]), torch.tensor([0]), locations, weights)
out.sum().backward()
assert out.tolist() == [[[1.0, 1.0]]] and value.grad.sum() == 2
assert torch.equal(out, ms_deform_attn(value, [(2, 2)], None, locations, weights))
compiled = torch.compile(lambda v: ms_deform_attn(v, [(2, 2)], None, locations, weights),
                         backend='aot_eager', fullgraph=True)
assert torch.equal(compiled(value), out)
from isda_suite.ops import deform_conv2d, ms_deform_attn_fused
points = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, 1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 1)
assert torch.equal(ms_deform_attn_fused(value, [(2, 2)], None, *points), out)
image, weight = torch.ones(1, 1, 2, 2, requires_grad=True), torch.ones(1, 1, 1, 1)
out = deform_conv2d(image, torch.zeros(1, 2, 2, 2), None, weight)
out.sum().backward()
assert torch.equal(out, image) and torch.equal(image.grad, torch.ones_like(image))
import json
print(json.dumps(info()))
"""


def _run(library, program=PROGRAM, **environment):
    return subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, 'ISDA_OPS_LIBRARY': str(library), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _damaged(tmp_path, kind):
    path = tmp_path / 'library.so'
    content = LIBRARY.path.read_bytes()
    if kind == 'truncated':
        path.write_bytes(content[: len(content) // 2])
    elif kind == 'text':
        path.write_text('not a library')
    elif kind == 'empty':
        path.touch()
    elif kind == 'overwritten':
        path.write_bytes(content[:4096].ljust(len(content), b'\0'))
    elif kind == 'unloadable':
        # A name that is not there: found by the loader of the operating system alone.
        path.write_bytes(content.replace(b'libtorch_cpu.so', b'libmissing_0.so'))
    return path


@needs_library
def test_another_torch_falls_back_works_and_says_so_once(tmp_path):
    path = tmp_path / 'library.so'
    built = LIBRARY.record['torch'].encode()
    other = b'2.3.0'.ljust(len(built), b'x')
    path.write_bytes(
        LIBRARY.path.read_bytes().replace(b'"torch": "' + built, b'"torch": "' + other)
    )
    done = _run(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('RuntimeWarning') == 1
    assert f'was built for torch {other.decode()}, not' in done.stderr
    assert 'python -m isda_suite.ops build' in done.stderr
    report = json.loads(done.stdout)
    assert report['library'] is None and 'was built for torch' in report['reason']
    reference = {'cpu': 'reference', 'cuda': 'reference'}
    assert report['ops'] == dict.fromkeys(OPERATORS, reference)


@needs_library
def test_a_library_of_older_sources_falls_back(tmp_path):
    path = tmp_path / 'library.so'
    content = LIBRARY.path.read_bytes()
    current, older = (f'"schemas": {number}'.encode() for number in (_SCHEMAS, _SCHEMAS - 1))
    assert current in content
    path.write_bytes(content.replace(current, older))
    done = _run(path)
    assert done.returncode == 0, done.stderr
    assert 'was built from other sources, with other operators' in done.stderr
    assert json.loads(done.stdout)['library'] is None


@needs_library
def test_a_damaged_library_is_not_loaded(tmp_path):
    """All in one process: the check is the same function the import calls."""
    for kind in ('truncated', 'text', 'empty', 'overwritten'):
        with pytest.raises(ValueError, match='is damaged'):
            read_record(_damaged(tmp_path, kind))


@needs_library
def test_a_library_that_cannot_be_linked_falls_back(tmp_path):
    program = 'import isda_suite.ops as ops; print(ops.info()["reason"])'
    done = _run(_damaged(tmp_path, 'unloadable'), program)
    assert done.returncode == 0, done.stderr
    assert 'cannot be loaded' in done.stdout and 'libmissing_0.so' in done.stdout


def test_a_missing_library_is_an_error_if_required(tmp_path):
    done = _run(tmp_path / 'nowhere.so', 'import isda_suite.ops', ISDA_REQUIRE_OPS='1')
    assert done.returncode == 1
    assert 'OpsLibraryError: ISDA_REQUIRE_OPS=1, but' in done.stderr
    assert 'nowhere.so' in done.stderr and 'python -m isda_suite.ops build' in done.stderr


def test_a_tool_says_that_the_required_library_is_missing(tmp_path):
    program = (
        'import sys; from isda_suite.cli import main; '
        'sys.exit(main(["fps", "isda/isda_sample.py"]))'
    )
    done = _run(tmp_path / 'nowhere.so', program, ISDA_REQUIRE_OPS='1')
    assert done.returncode == 2, done.stderr
    assert 'error: ISDA_REQUIRE_OPS=1, but' in done.stderr and 'Traceback' not in done.stderr


def test_importing_the_package_loads_no_library():
    program = 'import isda_suite, sys; assert "torch" not in sys.modules'
    assert _run('', program).returncode == 0


@needs_library
def test_the_library_needs_no_python_symbol():
    """One file serves every Python: it is loaded by torch, not imported."""
    done = subprocess.run(
        ['nm', '-D', '--undefined-only', str(LIBRARY.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    assert [name for name in names if name.startswith(('Py', '_Py'))] == []


@needs_library
def test_the_operators_need_nothing_but_torch():
    """Machines that only check or time the operators have no mmengine; its modules stay away."""
    done = _run(LIBRARY.path, "import sys; sys.modules['mmengine'] = None\n" + PROGRAM)
    assert done.returncode == 0, done.stderr
    program = (
        "import sys; sys.modules['mmengine'] = None; import isda_suite.ops.deformable_attention"
    )
    assert 'mmengine' in _run(LIBRARY.path, program).stderr
