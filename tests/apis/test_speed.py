import json

import pytest
import torch

from isda_suite.apis.speed import SpeedSettings, describe, measure_speed, write_report
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_isda import write_isda_config
from tests.apis.tiny_models import DETECTOR, SEGMENTOR, write_config

QUICK = dict(warmup=1, iters=3)


@pytest.mark.parametrize('text', [DETECTOR, SEGMENTOR], ids=['detector', 'segmentor'])
@pytest.mark.parametrize('protocol', ['network', 'model', 'end-to-end'])
def test_every_protocol_runs_on_sizes_that_need_padding(tmp_path, text, protocol):
    settings = SpeedSettings(50, 70, batch_size=2, protocol=protocol, **QUICK)
    report = measure_speed(write_config(tmp_path, text), settings, device='cpu')
    assert report['input_hw'] == [64, 96]
    times = report['time_ms']
    assert 0 < times['min'] <= times['p10'] <= times['median'] <= times['p90'] <= times['max']
    assert report['fps'] == pytest.approx(2000 / times['median'])
    assert report['settings']['protocol'] == protocol
    assert report['memory_mb']['gpu_peak'] is None
    assert {'torch', 'mmdet', 'isda_suite'} <= report['environment']['versions'].keys()
    assert 'padded to 64 x 96, batch 2, precision float32' in describe(report)


def test_isda_runs_in_mixed_precision(tmp_path):
    settings = SpeedSettings(64, 64, amp_dtype='auto', protocol='end-to-end', **QUICK)
    report = measure_speed(write_isda_config(tmp_path, 3), settings, device='cpu')
    assert report['settings']['amp_dtype'] == 'bfloat16'
    assert 'precision bfloat16' in describe(report)


def test_only_the_timed_passes_count(tmp_path, monkeypatch):
    """Slow passes during the warm-up leave no mark on the result."""
    from mmdet.models.detectors import SOLO

    calls = []
    real = SOLO.forward

    def forward(self, *args, **kwargs):
        calls.append(kwargs.get('mode'))
        if len(calls) <= 2:
            import time

            time.sleep(0.5)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(SOLO, 'forward', forward)
    settings = SpeedSettings(32, 32, protocol='network', warmup=2, iters=4)
    report = measure_speed(write_config(tmp_path), settings, device='cpu')
    assert calls == ['tensor'] * 6
    assert report['time_ms']['max'] < 500


def test_the_report_is_json(tmp_path):
    report = {'fps': 1.5, 'input_hw': [32, 64]}
    write_report(report, tmp_path / 'a' / 'b.json')
    assert json.loads((tmp_path / 'a' / 'b.json').read_text()) == report


@pytest.mark.parametrize(
    'wrong',
    [dict(height=0), dict(iters=0), dict(warmup=-1), dict(protocol='all'), dict(amp_dtype='int8')],
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SpeedSettings(**{'height': 32, 'width': 32, **wrong})


@pytest.mark.slow
def test_a_compiled_model_runs(tmp_path):
    settings = SpeedSettings(64, 64, protocol='network', compiled=True, **QUICK)
    report = measure_speed(write_config(tmp_path, SEGMENTOR), settings, device='cpu')
    assert report['settings']['compiled'] and report['time_ms']['max'] < 5000


@pytest.mark.cuda
def test_a_gpu_states_its_own_memory(tmp_path):
    settings = SpeedSettings(64, 64, amp_dtype='auto', protocol='end-to-end', **QUICK)
    report = measure_speed(write_isda_config(tmp_path, 3), settings, device='cuda')
    assert report['memory_mb']['gpu_peak'] > 0
    assert report['settings']['amp_dtype'] == 'float16'
    assert report['environment']['device'] == torch.cuda.get_device_name()
