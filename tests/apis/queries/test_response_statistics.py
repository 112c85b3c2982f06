import numpy as np
import pytest
import torch

from isda_suite.apis.queries.recorded_images import RecordedImage
from isda_suite.apis.queries.response_statistics import ResponseStatistics, measure
from isda_suite.layers.query_adapter import DotProductAdapter, QueryRecord


@pytest.mark.parametrize('power', [1, 8])
def test_statistics_are_those_of_all_values_at_once(power):
    values = torch.rand(7, 1234, generator=torch.Generator().manual_seed(power)) ** power
    statistics = ResponseStatistics()
    for piece in values:
        statistics.add(piece)
    found = statistics.result()
    strongest = np.sort(values.numpy().ravel())[-87:]  # a hundredth, rounded up
    assert found['pixels'] == values.numel()
    assert found['mean'] == pytest.approx(float(values.double().mean()), abs=1e-6)
    assert found['share_above_half'] == pytest.approx(
        float((values > 0.5).float().mean()), abs=1e-6
    )
    assert found['top_1_percent'] == pytest.approx(strongest.mean(), abs=1 / 4096)


def test_equal_values_zero_and_one():
    for value in (0.0, 0.5, 1.0):
        statistics = ResponseStatistics()
        statistics.add(torch.full((3, 5), value))
        assert statistics.result() == dict(
            mean=value, top_1_percent=value, share_above_half=float(value > 0.5), pixels=15
        )


def test_what_was_not_asked_does_not_count():
    statistics = ResponseStatistics()
    statistics.add(torch.tensor([0.25, torch.nan, 0.75]))
    assert statistics.result()['mean'] == 0.5 and statistics.result()['pixels'] == 2
    empty = ResponseStatistics()
    empty.add(torch.full((4,), torch.nan))
    assert empty.result()['mean'] is None and empty.result()['pixels'] == 0


class _Dots(DotProductAdapter):
    def record(self, detector, samples):
        raise NotImplementedError

    def mask_loss(self, records, logits):
        raise NotImplementedError


def test_own_and_foreign_pixels_are_told_apart():
    """Image 0: one query that answers its instance only. Image 1: every pixel answers halfway."""
    logit = torch.tensor([[20.0, -20.0], [-20.0, -20.0]])
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, :4, :4] = 1
    own = _image(0, logit, masks, torch.tensor([0]))
    other = _image(1, torch.zeros(2, 2), masks, torch.zeros(0, dtype=torch.long))
    other.rows = torch.zeros(5, 1)
    own.rows = torch.full((5, 1), 20.0)
    found = measure(_Dots(None), [own, other])
    assert found['queries'] == 1
    means = {name: found[name]['mean'] for name in found if name != 'queries'}
    assert means == {
        'own_instance': 1.0,
        'own_rest': pytest.approx(0.0, abs=1e-6),
        'foreign': 0.5,
        'foreign_instances': 0.5,
    }
    pixels = {name: found[name]['pixels'] for name in means}
    assert pixels == dict(own_instance=1, own_rest=3, foreign=4, foreign_instances=5)


def _image(index, pixels, masks, gt_inds):
    record = QueryRecord(torch.ones(len(gt_inds), 1), gt_inds, pixels[None])
    picture = np.zeros((8, 8, 3), np.uint8)
    labels = torch.zeros(len(masks), dtype=torch.long)
    return RecordedImage(index, str(index), picture, (8, 8), masks, labels, record, record, None)
