"""What the benchmarks share: turns, ratios, processes of their own, tables."""

import argparse
import json

import torch

from benchmarks import side_by_side

ABOUT = dict.fromkeys(('threads', 'torch', 'python', 'machine', 'date', 'load'), 1)


def test_variants_take_turns_in_blocks_after_a_run_that_does_not_count():
    order = []
    actions = {name: lambda name=name: order.append(name) for name in 'ab'}
    found = side_by_side.take_turns(actions, rounds=2, block=2)
    assert ''.join(order) == 'ab' + 'aabbaabb'
    assert set(found) == {'a', 'b'} and set(found['a']) >= {'cpu_median_s', 'wall_median_s'}


def test_a_ratio_is_that_of_what_both_were_measured_for():
    ours, rival = {'cpu_median_s': 1.0, 'peak_mb': 30.0}, {'cpu_median_s': 2.0, 'peak_mb': 40.0}
    assert side_by_side.ratios(ours, rival) == {'time': 0.5, 'memory': 0.75}
    assert side_by_side.ratios(ours, {'cpu_median_s': 4.0}) == {'time': 0.25}


def test_a_peak_is_what_is_held_at_once_above_the_start():
    found = side_by_side.measure_peak(lambda: torch.ones(50 * 2**18).sum() + 1)
    # The process of the tests may give back a little of something else meanwhile.
    assert 45 < found['peak_mb'] < 60 < found['process_mb']


def test_a_script_in_a_process_of_its_own_gets_its_options(tmp_path):
    script = tmp_path / 'script.py'
    code = 'import json, os, sys; print("said"); print(json.dumps([sys.argv[1:], os.getenv("X")]))'
    script.write_text(code)
    options, value = side_by_side.in_own_process(script, {'sizes': (1, 2), 'case': 'a'}, {'X': 'y'})
    assert options == ['--sizes', '1', '2', '--case', 'a'] and value == 'y'


def test_rows_without_variants_become_one_table():
    rows = [{'slots': 1, 'mb': 2.5}, {'slots': 2, 'mb': 3}]
    shown = side_by_side.as_markdown('Name', {**ABOUT, 'case': 'slots', 'rows': rows})
    assert shown.startswith('# Name: slots\n')
    assert '| slots | mb |\n| --- | --- |\n| 1 | 2.5 |\n| 2 | 3 |' in shown


def test_a_row_with_variants_becomes_a_table_of_them():
    rows = [{'frames': 12, 'ours': {'s': 1}, 'eager': {'s': 2}, 'ours / eager': {'time': 0.5}}]
    shown = side_by_side.as_markdown('Name', {**ABOUT, 'case': 'step', 'rows': rows})
    assert 'frames 12.' in shown
    assert '|  | s |\n| --- | --- |\n| ours | 1 |\n| eager | 2 |' in shown
    assert '|  | time |\n| --- | --- |\n| ours / eager | 0.5 |' in shown


def test_a_report_is_written_as_numbers_and_as_a_table(tmp_path, capsys):
    args = argparse.Namespace(case='a', threads=1, out=tmp_path / 'rows.json')
    side_by_side.report('Name', args, lambda args: [{'gap': 1.234e-7, 'case': args.case}])
    content = json.loads(args.out.read_text())
    assert content['rows'] == [{'gap': 1.234e-7, 'case': 'a'}]
    assert {*ABOUT, 'case', 'rows'} == set(content) and json.loads(capsys.readouterr().out)
    assert '| 1.2e-07 |' in args.out.with_suffix('.md').read_text()
