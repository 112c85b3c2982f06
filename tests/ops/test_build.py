"""Compiling ahead of time. The compiler is replaced: for real it takes a minute and more."""

import importlib
import json
import shutil
from pathlib import Path

import pytest

from isda_suite.ops import toolchain
from isda_suite.ops.library import LIBRARY
from tests.ops.operands import needs_library

# The package exports the function under the module's name.
builder = importlib.import_module('isda_suite.ops.build')
pytestmark = needs_library


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Plans that were compiled; the library in use is copied to where the result belongs."""
    plans = []

    def stand_in(plan, csrc, folder, name, verbose):
        plans.append(plan)
        if plan.with_cuda and plan.cuda_archs == 'fail':
            raise builder.CompileError('the compiler gave up')
        shutil.copy(LIBRARY.path, folder / f'{name}.so')

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    monkeypatch.setattr(builder, '_compile', stand_in)
    return plans


def _plan_with_cuda(monkeypatch, archs):
    plan = toolchain.Plan('2.11.0', '13.0', 'toolkit', archs)
    monkeypatch.setattr(toolchain, 'make_plan', lambda *_: plan)


def test_the_second_build_takes_the_first_ones_result(compiled, monkeypatch, tmp_path):
    _plan_with_cuda(monkeypatch, '8.0;9.0')
    first = builder.build()
    assert tmp_path in first.parents and 'cuda13.0-8.0_9.0' in first.parent.name
    assert builder.build() == first
    assert len(compiled) == 1


def test_an_interrupted_build_is_done_again(compiled, monkeypatch):
    _plan_with_cuda(monkeypatch, '8.0')
    library = builder.build()
    library.write_bytes(library.read_bytes()[:5000])
    (library.parent / 'lock').touch()
    assert builder.build() == library
    assert len(compiled) == 2 and not (library.parent / 'lock').exists()


def test_a_failing_cuda_compiler_leaves_the_cpu_operators_and_the_reason(compiled, monkeypatch):
    _plan_with_cuda(monkeypatch, 'fail')
    library = builder.build()
    assert [plan.with_cuda for plan in compiled] == [True, False]
    note = json.loads((library.parent / toolchain.RECORD_NAME).read_text())
    assert 'compiling the CUDA kernels failed' in note['reason']


def test_forced_cuda_does_not_fall_back(compiled, monkeypatch):
    _plan_with_cuda(monkeypatch, 'fail')
    monkeypatch.setenv('FORCE_CUDA', '1')
    with pytest.raises(builder.CompileError):
        builder.build()
    assert len(compiled) == 1


def test_no_compiler_is_said(compiled, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(RuntimeError, match='no C\\+\\+ compiler found'):
        builder.build()


def test_every_object_file_has_its_own_name(tmp_path):
    """torch's builder forgets the folders: deform_conv2d/cpu.cpp and ms_deform_attn/cpu.cpp."""
    csrc = builder.resource_root() / 'csrc'
    sources = [*toolchain.CPU_SOURCES, *toolchain.CUDA_SOURCES]
    paths = [Path(path) for path in builder._sources_with_own_names(sources, csrc, tmp_path)]
    assert len({(path.stem, path.suffix == '.cu') for path in paths}) == len(sources)
    for path, source in zip(paths, sources, strict=True):
        assert path.read_text() == f'#include "{csrc / source}"\n'
