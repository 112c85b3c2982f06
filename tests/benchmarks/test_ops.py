"""The benchmark of the operators: what its rows hold, what it refuses, what it draws."""

import json
import sys

import pytest

from benchmarks.operators import measure as measuring
from benchmarks.operators.cases import CASES, TRIALS
from benchmarks.operators.goals import Results, judge
from benchmarks.operators.implementations import OURS, Implementation, find
from benchmarks.operators.limits import limits_ms
from isda_suite.compat import import_hook
from tests.tools.running import ROOT, run, run_python

FIELDS = {
    'case',
    'pass',
    'implementation',
    'device',
    'dtype',
    'threads',
    'median_ms',
    'min_ms',
    'peak_mb',
    'ratio',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Results of the script for an attention and a convolution of a few pixels."""
    out = tmp_path_factory.mktemp('bench')
    cases = ('--case', 'trial_msda', '--case', 'trial_dcn', '--sampling', 'local')
    done = run_python('benchmarks/ops.py', *cases, '--json', out / 'rows.json', '--out', out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope='module')
def written(folder):
    return json.loads((folder / 'rows.json').read_text())


def test_every_row_holds_the_fields_and_ours_has_a_ratio_to_every_other(written):
    rows = written['rows']
    assert all(row.keys() >= FIELDS for row in rows)
    measured = {(row['case'], row['pass'], row['implementation']) for row in rows}
    for case in ('trial_msda', 'trial_dcn'):
        for passes in ('fwd', 'fwd+bwd'):
            names = {name for c, p, name in measured if (c, p) == (case, passes)}
            (ours,) = (
                row
                for row in rows
                if (row['case'], row['pass'], row['implementation']) == (case, passes, OURS)
            )
            assert ours['ratio'].keys() == names - {OURS}
            assert 0 < ours['min_ms'] <= ours['median_ms']
            assert ours['difference'] < measuring.TOLERANCE


def test_ratio_is_the_time_of_the_other_over_that_of_the_row(written):
    times = {(r['case'], r['pass'], r['implementation']): r['median_ms'] for r in written['rows']}
    for row in written['rows']:
        for other, ratio in row['ratio'].items():
            expected = times[row['case'], row['pass'], other] / row['median_ms']
            assert ratio == pytest.approx(expected)


def test_what_is_not_installed_is_named(written):
    names = {row['implementation'] for row in written['rows']}
    named = {name.partition(' ')[0] for name in written['missing']}
    assert {'mmcv', 'transformers', 'deformops', 'torchvision', 'conv2d'} <= names | named


def test_text_and_chart_are_written(folder):
    text = (folder / 'ops_cpu.md').read_text()
    assert '| trial_msda | local | fwd+bwd |' in text and 'Not measured:' in text
    assert (folder / 'ops_cpu.png').read_bytes().startswith(b'\x89PNG')
    drawing = (folder / 'ops_cpu.svg').read_text()
    assert '<svg' in drawing and 'isda_suite' in drawing


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_the_stand_in_is_never_measured_as_mmcv(monkeypatch, device):
    monkeypatch.setattr(import_hook, 'stand_in_is_used', lambda: True)
    found, missing = find(TRIALS['trial_dcn'], device)
    assert 'mmcv' not in found and 'make bench-env' in missing['mmcv']


def test_it_runs_where_only_torch_is_installed(tmp_path):
    """A machine with a GPU may have nothing else."""
    arguments = ['ops.py', '--case', 'trial_msda', '--sampling', 'local']
    arguments += ['--json', str(tmp_path / 'rows.json')]
    code = (
        'import runpy, sys; sys.modules.update(mmengine=None, mmcv=None, matplotlib=None); '
        f"sys.argv = {arguments}; runpy.run_path('benchmarks/ops.py', run_name='__main__')"
    )
    done = run(sys.executable, '-c', code, cwd=ROOT, PYTHONPATH='')
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / 'rows.json').read_text())
    assert {row['implementation'] for row in written['rows']} >= {OURS}
    assert 'mmcv (trial_msda)' in written['missing']


def test_wrong_results_are_not_timed(monkeypatch):
    def find_wrong(case, device):
        found, missing = find(case, device)
        wrong = Implementation(lambda operands: found[OURS].forward(operands) * 1.001)
        return {'wrong': wrong, OURS: found[OURS]}, missing

    monkeypatch.setattr(measuring, 'find', find_wrong)
    with pytest.raises(measuring.WrongResult, match=r'wrong differ by 0\.001'):
        measuring.measure('trial_msda', TRIALS['trial_msda'], 'local', False, measuring.Settings())


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_results_in_16_bits_are_verified_against_float64(dtype):
    settings = measuring.Settings(dtype=dtype)
    for name in ('trial_msda', 'trial_dcn'):
        rows, _ = measuring.measure(name, TRIALS[name], 'local', True, settings)
        assert 1e-5 < rows[-1]['difference'] < measuring.TOLERANCES_TO_FLOAT64[dtype]


@pytest.mark.parametrize(
    ('case', 'device', 'dtype', 'expected_ms'),
    [
        ('msda_encoder', 'cpu', 'float32', 4.2),
        ('dcn_256_100x136', 'cpu', 'float32', 58),
        ('msda_encoder', 'cuda', 'float32', 0.035),
        ('msda_encoder', 'cuda', 'bfloat16', 0.018),
        ('msda_defvistr', 'cuda', 'float32', 0.2),
        ('dcn_256_100x136', 'cuda', 'float32', 0.24),
    ],
)
def test_limits_are_those_counted_by_hand(case, device, dtype, expected_ms):
    limits = limits_ms(CASES[case], False, device, dtype, 'avx512', 1)
    assert max(limits.values()) == pytest.approx(expected_ms, rel=0.03)


def test_a_goal_is_met_from_its_number_on():
    row = {
        'case': 'msda_encoder',
        'pass': 'fwd',
        'implementation': OURS,
        'sampling': 'local',
        'device': 'cpu',
        'median_ms': 40.0,
        'limit_ms': 4.0,
        'ratio': {'mmcv': 20.0},
    }
    judged = judge(Results([row], {'import_ms': 50.1}, {'device': 'cpu'}))
    by_claim = {goal['claim']: goal for goal in judged}
    encoder = by_claim['msda_encoder fwd vs mmcv']
    assert encoder['must_met'] is True and encoder['stretch_met'] is False
    assert encoder['times_the_limit'] == 10
    assert by_claim['import time added by the library, ms']['must_met'] is False
    assert by_claim['msda_encoder fwd+bwd vs mmcv']['must_met'] is None


@pytest.mark.cuda
@pytest.mark.parametrize('name', ['trial_msda', 'trial_dcn'])
def test_on_a_gpu_ours_is_recorded_as_a_graph_and_timed_between_events(name):
    rows, _ = measuring.measure(
        name, TRIALS[name], 'local', True, measuring.Settings(device='cuda')
    )
    assert rows[-1]['implementation'] == OURS and rows[-1]['clock'] == 'events'
    assert rows[-1]['graph'] and rows[-1]['median_ms'] > 0 and rows[-1]['peak_mb'] > 0
