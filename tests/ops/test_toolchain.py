"""What is compiled: the toolkit is found, and a reason is kept for what is left out."""

import re

import pytest

from isda_suite.ops import toolchain
from isda_suite.resources import resource_root


@pytest.fixture
def bare(monkeypatch):
    """No switch set."""
    names = ('CUDA_HOME', 'CUDA_PATH', 'FORCE_CUDA', 'ISDA_BUILD_OPS', 'TORCH_CUDA_ARCH_LIST')
    for name in names:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _toolkit(folder, version='13.0'):
    """A toolkit whose nvcc answers like a real one."""
    (folder / 'bin').mkdir(parents=True)
    (folder / 'include').mkdir()
    (folder / 'include' / 'cuda_runtime.h').touch()
    nvcc = folder / 'bin' / 'nvcc'
    nvcc.write_text(
        '#!/bin/sh\n'
        f'case "$1" in --dryrun) echo "#\\$ TOP={folder}" >&2;; '
        f'*) echo "Cuda compilation tools, release {version}, V{version}.1";; esac\n'
    )
    nvcc.chmod(0o755)
    return folder


def test_a_wrapper_script_on_the_path_leads_to_the_toolkit(bare, tmp_path):
    home = _toolkit(tmp_path / 'toolkit')
    wrapper = tmp_path / 'bin' / 'nvcc'
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {home}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    bare.setenv('PATH', f'{wrapper.parent}:/usr/bin:/bin')
    assert toolchain.find_cuda_home() == home


def test_a_link_on_the_path_leads_to_the_toolkit(bare, tmp_path):
    home = _toolkit(tmp_path / 'toolkit')
    (home / 'bin' / 'nvcc').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'nvcc').symlink_to(home / 'bin' / 'nvcc')
    bare.setenv('PATH', f'{tmp_path / "bin"}:/usr/bin:/bin')
    assert toolchain.find_cuda_home() == home


def test_cuda_home_wins(bare, tmp_path):
    bare.setenv('CUDA_HOME', str(tmp_path))
    assert toolchain.find_cuda_home() == tmp_path


def test_the_plan_has_cuda_if_the_major_versions_agree(bare, tmp_path):
    bare.setenv('CUDA_HOME', str(_toolkit(tmp_path / 'toolkit', '13.2')))
    plan = toolchain.make_plan('2.11.0+cu130', '13.0')
    assert plan.with_cuda and plan.reason is None
    assert plan.cuda_archs == '8.0;9.0+PTX'
    assert toolchain.CUDA_SOURCES[1] in toolchain.sources(plan)
    bare.setenv('TORCH_CUDA_ARCH_LIST', '9.0, 10.0')
    assert toolchain.make_plan('2.11.0+cu130', '13.0').cuda_archs == '9.0;10.0'


@pytest.mark.parametrize(
    'torch_cuda, toolkit, reason',
    [
        (None, '13.0', 'torch 2.11.0 is a build without CUDA'),
        ('12.6', '13.0', 'torch was built with CUDA 12.6 but the toolkit in .* is 13.0'),
        ('13.0', None, 'has no working bin/nvcc'),
    ],
)
def test_without_a_fitting_toolkit_the_reason_is_kept(bare, tmp_path, torch_cuda, toolkit, reason):
    home = _toolkit(tmp_path / 'toolkit', toolkit) if toolkit else tmp_path
    bare.setenv('CUDA_HOME', str(home))
    plan = toolchain.make_plan('2.11.0', torch_cuda)
    assert not plan.with_cuda
    assert re.search(reason, plan.reason)
    assert not set(toolchain.CUDA_SOURCES) & set(toolchain.sources(plan))
    bare.setenv('FORCE_CUDA', '1')
    with pytest.raises(RuntimeError, match=f'FORCE_CUDA=1.*{reason}'):
        toolchain.make_plan('2.11.0', torch_cuda)


def test_a_switch_with_another_value_is_named(bare):
    bare.setenv('ISDA_BUILD_OPS', 'maybe')
    with pytest.raises(ValueError, match="ISDA_BUILD_OPS: expected 0, 1 or auto, got 'maybe'"):
        toolchain.flag('ISDA_BUILD_OPS')


def test_every_source_is_there_and_counts_in_the_hash(tmp_path):
    csrc = resource_root() / 'csrc'
    for source in (*toolchain.CPU_SOURCES, *toolchain.CUDA_SOURCES):
        assert (csrc / source).is_file()
    (tmp_path / 'a.cpp').write_text('1')
    before = toolchain.source_hash(tmp_path)
    (tmp_path / 'a.cpp').write_text('2')
    assert toolchain.source_hash(tmp_path) != before


def test_kernels_include_no_torch_header():
    """They compile in seconds only as long as they do not."""
    csrc = resource_root() / 'csrc'
    bindings = {'checks', 'cpu', 'cuda', 'cuda_body_on_host', 'operand_checks', 'parallel'}
    bindings |= {'registration', 'workspaces'}
    kernels = [p for p in csrc.rglob('*') if p.suffix in ('.h', '.cpp', '.cu')]
    for path in kernels:
        text = path.read_text()
        assert 'torch/extension.h' not in text and 'pybind' not in text, path
        if path.stem not in bindings:
            assert '#include <ATen' not in text and '#include <torch' not in text, path
