"""The benchmark of ISDNet: that its rival is the same network, and that its cases run."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch

from benchmarks import isdnet
from benchmarks.rivals.isdnet_literal import load_weights_of
from isda_suite.apis.performance.fast_inference import optimise_for_inference


@pytest.fixture(scope='module')
def model():
    return isdnet.build_model()


@pytest.fixture(scope='module')
def literal(model):
    return load_weights_of(model)


@pytest.mark.parametrize('size_hw', [(53, 75), (64, 96)], ids=['odd', 'even'])
def test_the_literal_network_gives_our_logits_and_labels(model, literal, size_hw):
    image = torch.randn(2, 3, *size_hw, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = literal.encode_decode(image)
        labels = literal.predict(image, size_hw)
        found = model.encode_decode(image, [])
        classes = torch.cat([one.pred_sem_seg.data for one in model.predict(image)])
    allowed = isdnet.TOLERANCE * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=allowed)
    first, second = expected.topk(2, dim=1).values.unbind(1)
    clear = first - second > 2 * allowed
    assert clear.double().mean() > 0.9 and len(labels.unique()) > 1
    assert torch.equal(classes[clear].long(), labels[clear])


@pytest.fixture
def benchmark(run_case):
    """Run a case; returns its rows."""
    return partial(run_case, isdnet)


def test_forward_compares_three_variants_of_one_network(benchmark):
    (row,) = benchmark('forward', '--sides', 97, '--rounds', 1)
    assert set(row) == {'side', *isdnet.VARIANTS}
    assert all(row[name]['pixels_that_differ'] <= 16 for name in isdnet.VARIANTS)
    assert row['ours fast']['times_faster'] > 0


def test_a_network_that_computes_something_else_is_not_timed(benchmark, monkeypatch):
    def other(model):
        model.refine_head.conv_seg.conv.norm.bias.data += 1
        return optimise_for_inference(model)

    monkeypatch.setattr('isda_suite.apis.performance.fast_inference.optimise_for_inference', other)
    with pytest.raises(SystemExit, match='ours fast: logits differ by'):
        benchmark('forward', '--sides', 97)


def test_evaluation_compares_equal_counts(benchmark):
    (row,) = benchmark('evaluation', '--sides', 1000, '--rounds', 1)
    assert row['our metric']['times_faster'] > 1 > row['our metric']['share_of_memory']


def test_memory_gives_a_row_for_every_side(benchmark):
    rows = benchmark('memory', '--sides', 64, 96)
    assert [row['side'] for row in rows] == [64, 96]


def test_bfloat16_reads_another_network_from_a_file_and_its_images(benchmark, tmp_path):
    config, weights = 'isdnet/isdnet_r18_sample.py', tmp_path / 'sample.pth'
    torch.save({'state_dict': isdnet.build_model(config).state_dict()}, weights)
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (128, 160 + index, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / f'{index}.png'), pixels)
    arguments = ('--config', config, '--checkpoint', weights, '--images', tmp_path)
    (row,) = benchmark('bfloat16', *arguments)
    assert row['number_of_images'] == 2 and row['config'] == config
    assert 0 < row['share_of_pixels_that_differ'] <= row['share_in_the_worst_image'] < 0.2
