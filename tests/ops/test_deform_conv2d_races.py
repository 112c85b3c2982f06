"""Threads of a block in the CUDA kernels do not race: their bodies on threads of the host."""

import shutil
import subprocess
from pathlib import Path

import pytest

from isda_suite.ops.toolchain import find_compiler
from isda_suite.resources import resource_root

SOURCE = Path(__file__).with_name('deform_conv2d_races.cpp')
WAIT = 'policy.wait();'


def _run(csrc, folder):
    compiler = find_compiler()
    if compiler is None:
        pytest.skip('needs a C++ compiler')
    program = folder / 'races'
    flags = ['-O1', '-g', '-std=c++17', '-pthread', '-fsanitize=thread', f'-I{csrc}']
    built = subprocess.run(
        [compiler, *flags, str(SOURCE), '-o', str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0 and 'tsan' in built.stderr:
        pytest.skip('needs a compiler with a race detector')
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=300)
    if 'FATAL: ThreadSanitizer' in done.stderr:
        pytest.skip('the race detector does not run here')
    return done


def test_no_race_and_the_results_of_one_thread(tmp_path):
    done = _run(resource_root() / 'csrc', tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cuda_points.h', 'cuda_body.h', 'cuda_fused_body.h'])
def test_every_wait_is_needed(tmp_path, name):
    """Otherwise a wait too few would not show either."""
    shutil.copytree(resource_root() / 'csrc', tmp_path / 'csrc')
    path = tmp_path / 'csrc' / 'deform_conv2d' / name
    text = path.read_text()
    parts = text.split(WAIT)
    assert len(parts) > 1
    for i in range(1, len(parts)):
        path.write_text(WAIT.join(parts[:i]) + ';' + WAIT.join(parts[i:]))
        assert _run(tmp_path / 'csrc', tmp_path).returncode != 0, f'wait {i}'
