"""A barrier left out of a CUDA kernel is found by the host that runs its body.

Each barrier is taken out of a copy of the sources in turn; ``cuda_blocks.cpp`` is compiled with the
copy, runs the bodies and must end with an error. So the tests in test_cuda_body.py would, too.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from isda_suite.ops import toolchain

CSRC = Path(__file__).parents[2] / 'csrc'
PROGRAM = Path(__file__).with_name('cuda_blocks.cpp')
BODIES = (
    'ms_deform_attn/cuda_forward_body.h',
    'ms_deform_attn/cuda_backward_body.h',
    'ms_deform_attn_fused/cuda_raw_points.h',
)
COMPILER = toolchain.find_compiler()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason='needs a C++ compiler'),
]


def _barriers():
    for name in BODIES:
        text = (CSRC / name).read_text()
        for match in re.finditer(r'block\.barrier\(\);', text):
            line = text.count('\n', 0, match.start()) + 1
            yield pytest.param(name, match.span(), id=f'{Path(name).stem}:{line}')


def _run(csrc, folder):
    program = folder / 'blocks'
    command = [COMPILER, '-std=c++17', '-O0', f'-I{csrc}', str(PROGRAM), '-o', str(program)]
    subprocess.run(command, check=True)
    return subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)


def test_with_all_barriers_there_is_no_race(tmp_path):
    done = _run(CSRC, tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('name, span', list(_barriers()))
def test_a_barrier_left_out_is_found(tmp_path, name, span):
    copy = tmp_path / 'csrc'
    shutil.copytree(CSRC, copy)
    text = (CSRC / name).read_text()
    (copy / name).write_text(text[: span[0]] + text[span[1] :])
    done = _run(copy, tmp_path)
    assert done.returncode != 0 and 'without a barrier' in done.stdout
