import json

import pytest
import torch

from isda_suite.apis.performance.speed import SpeedSettings, describe, measure_speed, write_report
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_isda import write_isda_config
from tests.apis.tiny_models import DETECTOR, SEGMENTOR, write_config
from tests.apis.tiny_video_models import VIDEO_MODEL, ColourTracker

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


def test_the_paper_swaps_and_scales_the_sides_and_leaves_out_the_label_map(tmp_path, monkeypatch):
    """int(W s) x int(H s) with s = 0.8, and images per second from the sum of the times."""
    from mmseg.models import EncoderDecoder

    seen = []
    real = EncoderDecoder.encode_decode

    def encode_decode(self, inputs, metas):
        seen.append((tuple(inputs.shape), torch.is_grad_enabled(), self.training))
        return real(self, inputs, metas)

    monkeypatch.setattr(EncoderDecoder, 'encode_decode', encode_decode)
    settings = SpeedSettings(81, 103, protocol='paper', **QUICK)
    report = measure_speed(write_config(tmp_path, SEGMENTOR), settings, device='cpu')
    assert seen == [((1, 3, 82, 64), False, False)] * 4
    assert report['input_hw'] == [82, 64]
    assert report['fps'] == pytest.approx(1000 / report['time_ms']['mean'])
    assert '81 x 103, timed at 82 x 64' in describe(report)


def test_the_paper_has_its_own_numbers_of_passes():
    paper = SpeedSettings(64, 64, protocol='paper')
    assert (paper.warmup, paper.iters) == (100, 300)
    assert (SpeedSettings(64, 64).warmup, SpeedSettings(64, 64).iters) == (5, 30)
    assert SpeedSettings(64, 64, protocol='paper', warmup=0, iters=2).warmup == 0


def test_full_times_label_maps_of_the_whole_image(tmp_path, monkeypatch):
    from mmseg.models import EncoderDecoder

    maps = []
    real = EncoderDecoder.predict

    def predict(self, inputs, samples):
        maps.append(real(self, inputs, samples))
        return maps[-1]

    monkeypatch.setattr(EncoderDecoder, 'predict', predict)
    settings = SpeedSettings(50, 70, protocol='full', fused=True, channels_last=True, **QUICK)
    report = measure_speed(write_config(tmp_path, SEGMENTOR), settings, device='cpu')
    assert len(maps) == 4 and maps[0][0].pred_sem_seg.shape == (50, 70)
    assert report['settings']['fused'] and 'float32, fused, channels_last' in describe(report)


@pytest.mark.parametrize('protocol', ['full', 'paper'])
def test_protocols_of_segmentors_refuse_detectors(tmp_path, protocol):
    settings = SpeedSettings(64, 64, protocol=protocol, **QUICK)
    for text, name in ((DETECTOR, 'SOLO'), (VIDEO_MODEL, 'ColourTracker')):
        with pytest.raises(ConfigError, match=f'{name} has no encode_decode'):
            measure_speed(write_config(tmp_path, text), settings, device='cpu')


@pytest.mark.parametrize('protocol', ['network', 'model', 'end-to-end'])
def test_models_of_clips_are_timed_by_the_frame(tmp_path, monkeypatch, protocol):
    fed = []
    monkeypatch.setattr(
        ColourTracker, '_forward', lambda self, inputs, samples=None: fed.append((inputs, samples))
    )
    settings = SpeedSettings(30, 50, batch_size=2, protocol=protocol, channels_last=True, **QUICK)
    report = measure_speed(write_config(tmp_path, VIDEO_MODEL), settings, device='cpu')
    assert {tuple(inputs.shape) for inputs, _ in fed} == {(2, 4, 3, 30, 50)}
    assert fed[0][1][1].is_last_clip and fed[0][1][1].clip_frames == [0, 1, 2, 3]
    assert len(fed[0][1][1].video_data_samples) == 4
    assert report['clip_len'] == 4
    assert report['clips_per_second'] == pytest.approx(2000 / report['time_ms']['median'])
    assert report['fps'] == pytest.approx(4 * report['clips_per_second'])
    assert 'clips of 4 frames, batch 2' in describe(report)
    assert f'{report["fps"]:.2f} frames, ' in describe(report)


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
    [
        dict(height=0),
        dict(iters=0),
        dict(warmup=-1),
        dict(protocol='all'),
        dict(amp_dtype='int8'),
        dict(batch_size=2, protocol='paper'),
    ],
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
    assert report['memory_mb']['gpu_reserved'] >= report['memory_mb']['gpu_peak'] > 0
    assert report['settings']['amp_dtype'] == 'float16'
    assert report['environment']['device'] == torch.cuda.get_device_name()
