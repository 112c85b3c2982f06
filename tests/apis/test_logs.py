"""Curves of logs: what is read, which keys, smoothing, files."""

import json

import numpy as np
import pytest

from isda_suite.apis.logs import curves_of, find_scalars, plot_logs, read_scalars
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from isda_suite.visualization.log_curves import smoothed
from tests.tools.in_process import call_tool


def _write(folder, *lines):
    (folder / 'vis_data').mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'vis_data/scalars.json').write_text(text)


@pytest.fixture
def run(tmp_path):
    """A run that was resumed at step 10."""
    steps = [{'loss': 4.0 / step, 'lr': 0.1, 'step': step} for step in (5, 10, 15)]
    _write(tmp_path / 'run/20260101_000000', *steps, {'coco/segm_mAP': 0.1, 'step': 15})
    again = [{'loss': 1.0, 'step': 15}, {'loss': 0.5, 'step': 20}]
    _write(tmp_path / 'run/20260102_000000', *again)
    return tmp_path / 'run'


def test_a_resumed_run_is_one_curve_of_the_later_values(run):
    loss, metric = curves_of([run])
    assert (loss.run, loss.key, metric.key) == ('run', 'loss', 'coco/segm_mAP')
    assert loss.steps.tolist() == [5, 10, 15, 20]
    assert loss.values.tolist() == [0.8, 0.4, 1.0, 0.5]


def test_a_part_of_a_run_or_its_file_can_be_named(run):
    part = run / '20260101_000000'
    assert curves_of([part])[0].steps.tolist() == [5, 10, 15]
    assert find_scalars(part / 'vis_data/scalars.json') == find_scalars(part)


def test_keys_are_patterns_and_unknown_ones_are_named(run):
    assert [curve.key for curve in curves_of([run], ['l*'])] == ['loss', 'lr']
    with pytest.raises(ConfigError, match='logged are loss, lr, coco/segm_mAP'):
        curves_of([run], ['accuracy'])
    with pytest.raises(ConfigError, match='2 for 1 runs'):
        curves_of([run], names=['a', 'b'])


def test_a_line_that_is_just_being_written_is_left_out(run):
    path = run / '20260102_000000/vis_data/scalars.json'
    path.write_text(path.read_text() + '{"loss": 0.')
    assert read_scalars([path])['loss'] == {15.0: 1.0, 20.0: 0.5}
    path.write_text('{"loss"\n' + path.read_text())
    with pytest.raises(DataError, match='line 1 is no json'):
        read_scalars([path])


def test_a_folder_without_logs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no scalars\.json'):
        curves_of([tmp_path])


def test_smoothing_is_an_unbiased_moving_average():
    values = np.array([2.0, np.nan, 4.0])
    assert smoothed(values, 0.5).tolist() == pytest.approx([2, 2, (0.5 * 2 + 4) / 1.5])
    assert smoothed(values, 0.0) is values


@pytest.mark.parametrize('suffix', ['.png', '.svg'])
def test_the_command_draws_runs_together(run, tmp_path, monkeypatch, capsys, suffix):
    out = tmp_path / f'new/logs{suffix}'
    words = (run, run / '20260101_000000', '--smooth', 0.5, '--out', out, '--names', 'a$', 'b')
    assert call_tool(monkeypatch, 'tools/analysis/plot_logs.py', *words) == 0
    assert 'a$  loss: 0.5 at step 20' in capsys.readouterr().out
    start = {'.png': b'\x89PNG', '.svg': b'<?xml'}[suffix]
    assert out.read_bytes().startswith(start) and len(list(out.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(out='a.txt'), 'must end with'), (dict(out='a.png', smoothing=1.0), 'below 1')],
)
def test_wrong_arguments_are_refused(run, options, message):
    with pytest.raises(ConfigError, match=message):
        plot_logs([run], **options)
