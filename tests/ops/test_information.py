"""``python -m isda_suite.ops``: what is in use, and why nothing faster is."""

import json
import os
import subprocess
import sys

import pytest
import torch

from isda_suite.ops import hardware, info, information
from isda_suite.ops.information import OPERATORS
from isda_suite.ops.library import LIBRARY
from tests.ops.operands import needs_library

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')


def _run(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, '-m', 'isda_suite.ops', *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _lines(text):
    """Text by the name, or operator and device, in front of it."""
    found = {}
    width = max(len(name) for name in OPERATORS)
    for line in text.splitlines():
        words = line[:width].strip(), line[width + 1 :].strip()
        if words[0] in OPERATORS:
            device, _, rest = words[1].partition(' ')
            found[words[0], device] = rest.strip()
        else:
            found[words[0]] = words[1]
    return found


@needs_library
def test_every_operator_and_every_part_has_a_line():
    code, text, _ = _run(ISDA_OPS_CPU_ISA='')
    lines = _lines(text)
    assert code == 0
    assert {*OPERATORS} == {'deform_conv2d', 'ms_deform_attn', 'ms_deform_attn_fused'}
    for name in OPERATORS:
        assert lines[name, 'cpu'].startswith(f'compiled ({hardware.best_cpu_variant()})')
        assert lines[name, 'cuda'].split(':')[0].split(' (')[0] in ('compiled', 'reference')
    assert lines['library'] == str(LIBRARY.path)
    assert lines['torch'] == f'{torch.__version__} (library: {torch.__version__})'
    assert LIBRARY.record['compiler'] in lines['compiler']
    for name in ('CPU variant', 'CUDA archs', 'GPU'):
        assert lines[name]


@needs_library
def test_a_variant_chosen_by_hand_is_named_with_the_better_one():
    best = hardware.best_cpu_variant()
    if best == 'generic':
        pytest.skip('this processor runs nothing faster')
    lines = _lines(_run(ISDA_OPS_CPU_ISA='generic')[1])
    reason = f'ISDA_OPS_CPU_ISA=generic; this processor can run {best}'
    assert lines['CPU variant'] == f'generic: {reason}'
    assert lines['deform_conv2d', 'cpu'] == f'compiled (generic): {reason}'


@needs_library
def test_a_variant_that_does_not_exist_is_an_error_without_a_traceback():
    code, _, errors = _run(ISDA_OPS_CPU_ISA='sse9')
    assert code == 1
    assert errors.startswith('error: ISDA_OPS_CPU_ISA: expected one of') and 'sse9' in errors


def test_without_a_library_every_line_says_why():
    code, text, _ = _run(ISDA_OPS_LIBRARY='', ISDA_REQUIRE_OPS='')
    lines = _lines(text)
    assert code == 0
    for name in OPERATORS:
        for device in ('cpu', 'cuda'):
            assert lines[name, device] == 'reference: ISDA_OPS_LIBRARY is empty'
    for name in ('library', 'CPU variant', 'CUDA archs'):
        assert lines[name] == 'none: ISDA_OPS_LIBRARY is empty'


def test_json_holds_what_info_returns():
    code, text, _ = _run('--json')
    report = json.loads(text)
    assert code == 0 and report.keys() == info().keys()
    assert report['ops'].keys() == report['slower'].keys() == {*OPERATORS}


@pytest.mark.parametrize(
    'variant, best, reason',
    [
        ('avx512', 'avx512', None),
        ('avx2', 'avx2', 'this processor has no AVX-512 (F, BW, DQ and VL)'),
        ('generic', 'generic', 'this processor has no AVX2 with FMA'),
        ('avx2', 'avx512', 'chosen by the program; this processor can run avx512'),
    ],
)
def test_a_processor_without_a_faster_instruction_set_is_named(monkeypatch, variant, best, reason):
    monkeypatch.delenv('ISDA_OPS_CPU_ISA', raising=False)
    assert hardware.cpu_reason(variant, best) == reason


@NO_GPU
def test_a_missing_driver_is_told_from_a_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(hardware, '_driver_loads', lambda: False)
    assert hardware.gpu_reason() == 'no NVIDIA driver: libcuda.so.1 cannot be loaded'
    monkeypatch.setattr(hardware, '_driver_loads', lambda: True)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert hardware.gpu_reason() == 'no GPU found, or a driver too old for CUDA 13.0'
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '7')
    assert hardware.gpu_reason() == 'no GPU found with CUDA_VISIBLE_DEVICES=7'
    monkeypatch.setattr(torch.version, 'cuda', None)
    assert hardware.gpu_reason().endswith('is a build without CUDA')


@pytest.mark.parametrize(
    'capability, arch',
    [
        ((7, 5), None),
        ((8, 0), '8.0'),
        ((8, 9), '8.6'),
        ((9, 0), '9.0+PTX'),
        ((12, 0), '9.0+PTX'),
    ],
)
def test_the_architecture_in_use_is_the_nearest_below(capability, arch):
    assert hardware.matching_arch(['8.0', '8.6', '9.0+PTX'], capability) == arch


def test_an_architecture_with_a_letter_serves_itself_alone():
    assert hardware.matching_arch(['9.0a'], (9, 0)) == '9.0a'
    assert hardware.matching_arch(['9.0a+PTX', 'Ampere'], (10, 0)) is None


def test_a_gpu_that_the_library_has_no_code_for_is_named(monkeypatch):
    monkeypatch.setattr(information, 'gpu_reason', lambda: None)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Old GPU')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (7, 5))
    found = information._gpu(['8.0', '9.0+PTX'])
    assert found['gpu'] == 'Old GPU' and found['cuda_arch'] is None
    assert found['gpu_reason'].startswith('the library has code for 8.0, 9.0+PTX, this GPU is 7.5')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (9, 0))
    assert information._gpu(['8.0', '9.0+PTX']) == {
        'gpu': 'Old GPU',
        'cuda_arch': '9.0+PTX',
        'gpu_reason': None,
    }


@pytest.mark.parametrize('archs', [[], ['8.0']])
def test_a_library_without_cuda_or_an_operator_without_its_kernels_says_so(archs):
    report = {'cuda_reason': None if archs else 'built for the CPU alone', 'gpu_reason': 'no GPU'}
    expected = 'this operator has no CUDA kernels yet' if archs else 'built for the CPU alone'
    assert information._why_slower(report, 'reference', 'cuda') == expected
    assert information._why_slower(report, 'compiled', 'cuda') == 'no GPU'
