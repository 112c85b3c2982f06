"""What is told of large passes from small ones, on numbers that are known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from isda_suite.apis.performance import memory_growth, memory_trial
from isda_suite.apis.performance.memory_growth import (
    UNMEASURED_FACTOR,
    StepGrowth,
    _has_batch_statistics,
    _sides,
    extrapolate,
    overhead,
)
from isda_suite.apis.performance.memory_trial import Workload

SIZES = ((2, 128**2), (2, 256**2), (2, 352**2), (3, 256**2))


@pytest.mark.parametrize(
    ('share', 'always'), [(0.5, 0), (0.1, 0), (0, 0), (0.5, 8e6)], ids=['n', 'less', 'one', 'more']
)
def test_the_fit_finds_what_the_measurements_were_made_of(share, always):
    def peak(number, pixels):
        grown = 600.0 * pixels + 0.004 * pixels**2
        return 5e6 + grown * (1 + share * (number - 2)) + always * (number - 2)

    found = extrapolate(SIZES, [peak(*size) for size in SIZES], (8, 800 * 1333))
    assert found == pytest.approx(peak(8, 800 * 1333), rel=1e-3)


def test_the_fit_never_falls_with_the_size_or_the_batch():
    peaks = [10e6, 20e6, 20.1e6, 29e6]
    found = [extrapolate(SIZES, peaks, (2, side**2)) for side in (256, 512, 1024)]
    assert found == sorted(found) and found[0] > 15e6
    found = [extrapolate(SIZES, peaks, (number, 256**2)) for number in (1, 2, 8)]
    assert found == sorted(found)


@pytest.mark.parametrize(
    ('taken', 'expected'),
    [
        ((40e6, 1250e6), (4e6 / 0.99 * 2.2, 1.222)),
        ((10e6, 1500e6), (0.0, 1.5)),
        ((10e6, 900e6), (0.0, 1.0)),
        ((None, 900e6), (0.0, UNMEASURED_FACTOR)),
    ],
    ids=['line', 'through zero', 'not below the tensors', 'unknown'],
)
def test_the_process_takes_a_constant_and_a_share_more(taken, expected):
    constant, factor = overhead([10e6, 1000e6], taken)
    assert factor == pytest.approx(expected[1], abs=1e-3)
    if taken[0] == 40e6:
        assert constant + factor * 10e6 == pytest.approx(40e6)
        assert constant + factor * 1000e6 == pytest.approx(1250e6)
    else:
        assert constant == expected[0]


def test_growth_is_the_fit_and_what_the_process_takes_for_it():
    growth = StepGrowth(SIZES, (10e6, 20e6, 30e6, 40e6), 7e6, 1.5, 3e6)
    wanted = extrapolate(growth.sizes, growth.peaks, (5, 512 * 640))
    assert growth.bytes_of(5, (512, 640)) == int(7e6 + 1.5 * (wanted + 3e6))


def test_gradients_that_fill_a_small_pass_do_not_bend_the_fit(monkeypatch):
    """Maps are gone when gradients of layers before them come, the peak of a pass of small maps."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(3, 128), *[nn.Linear(128, 128) for _ in range(60)]
            )

        def forward(self, images):
            found = self.layers(images.mean((2, 3))).sum(dim=1)
            return (found[:, None, None, None] * images).sin().exp().sum()

    trial = Deep()
    monkeypatch.setattr(
        memory_trial,
        '_run',
        lambda trial, load: trial(torch.rand(load.batch_size, 3, *load.size_hw)).backward(),
    )
    load = Workload(1, (64, 64), training=True)
    growth = memory_growth.growth_of(trial, load, on_gpu=True)
    passes = [
        replace(load, batch_size=n, size_hw=(s, s))
        for n, s in ((1, 128), (1, 256), (1, 512), (2, 256))
    ]
    counted = [memory_trial.counted_peaks(trial, replace(load, size_hw=(s, s))) for s in (128, 800)]
    gradients = sum(p.numel() * p.element_size() for p in trial.parameters())
    assert counted[0][1] < gradients <= counted[0][0]
    told = growth.bytes_of(1, (800, 800)) / memory_growth.GPU_FACTOR
    assert counted[1][0] * 0.99 <= told <= counted[1][0] + gradients
    together = [memory_trial.counted_peaks(trial, sized)[0] for sized in passes]
    assert extrapolate(growth.sizes, together, (1, 800 * 800)) > 1.3 * counted[1][0]


def test_frames_of_a_clip_have_the_pixels_of_one_image():
    assert _sides(1) == (128, 256, 512)
    assert _sides(2) == (128, 256, 352)
    assert _sides(36) == (32, 64, 96)
    assert _sides(1, 128**2) == (64, 96, 128), 'where little memory is free'


def test_only_statistics_of_a_batch_need_two_images():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert _has_batch_statistics(model)
    model[1].eval()
    assert not _has_batch_statistics(model)
