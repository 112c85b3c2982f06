"""The library as it was linked: vector instructions stand only where the choice of ISA leads."""

import platform
import re
import shutil
import subprocess
from collections import defaultdict

import pytest

from isda_suite.ops.library import LIBRARY
from tests.ops.operands import needs_library

pytestmark = [
    needs_library,
    pytest.mark.skipif(shutil.which('objdump') is None, reason='objdump is not installed'),
    pytest.mark.skipif(platform.machine() != 'x86_64', reason='about x86 processors'),
]


def _objdump(*arguments):
    command = ['objdump', *arguments, str(LIBRARY.path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope='module')
def functions():
    """Source file (or None if any file may have brought it) and text of every function."""
    file, homes = None, {}
    for line in _objdump('-t').splitlines():
        if ' df *ABS*' in line:
            # What follows is local to this file, up to the next one.
            file = line.split()[-1]
        elif ' F .text' in line:
            local = line[17:18] == 'l'
            homes[int(line.split()[0], 16)] = file if local else None
    if not homes:
        pytest.skip('the library was stripped of its symbols')
    found, lines = {}, []
    for line in _objdump('-d', '--no-show-raw-insn').splitlines():
        start = re.match(r'([0-9a-f]{16}) <(.+)>:', line)
        if start:
            lines = []
            found[start[2], int(start[1], 16)] = (homes.get(int(start[1], 16)), lines)
        else:
            lines.append(line)
    return found


def _registers(functions):
    """Kinds of vector registers by source file."""
    found = defaultdict(set)
    for home, lines in functions.values():
        for kind in re.findall(r'%([yz])mm', '\n'.join(lines)):
            found[home].add(kind)
    return found


@pytest.mark.parametrize(
    'file, allowed',
    [('cpu_generic.cpp', set()), ('cpu_avx2.cpp', {'y'}), ('cpu_avx512.cpp', {'y', 'z'})],
)
def test_a_variant_uses_no_register_beyond_its_instruction_set(functions, file, allowed):
    used = _registers(functions)[file]
    assert used <= allowed
    assert not allowed or max(allowed) in used, 'the variant is not vectorised'


def test_functions_that_any_file_may_have_brought_use_no_wide_registers(functions):
    """The linker keeps one copy of an inline function, perhaps that of a wide variant."""
    wide = [
        name
        for (name, _), (home, lines) in functions.items()
        if home not in ('cpu_avx2.cpp', 'cpu_avx512.cpp')
        and re.search(r'%[yz]mm', '\n'.join(lines))
    ]
    assert wide == []
