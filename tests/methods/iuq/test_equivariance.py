"""The equivariance term: the law for dot products, and a model that obeys it by construction."""

import mmdet.models.utils
import pytest
import torch
from mmdet.models.dense_heads import mask2former_head
from torch import nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_coverage import bitmap_of, coverage_of
from isda_suite.layers.query_adapter import DotProductAdapter, QueryRecord, find_adapter, recording
from isda_suite.methods.iuq.equivariance import Equivariance, equivariance_loss, transform_maps
from isda_suite.methods.iuq.geometry import Geometry
from isda_suite.methods.iuq.step import Step
from tests.methods.iuq.build import DOT_FAMILIES, MAP_FAMILIES, batch_of, build_plain

CANVAS = (128, 128)
FLIPS = [dict(flip_x=True), dict(flip_y=True), dict(flip_x=True, flip_y=True)]


@pytest.fixture(autouse=True)
def symmetric_points(monkeypatch):
    """Mask2Former judges masks at random points; here at a grid that flips map to itself."""
    side = (torch.arange(24) + 0.5) / 24
    grid = torch.stack(torch.meshgrid(side, side, indexing='xy'), dim=-1).view(1, -1, 2)
    for place in (mmdet.models.utils, mask2former_head):
        monkeypatch.setattr(
            place,
            'get_uncertain_point_coords_with_randomness',
            lambda masks, *_: grid.expand(len(masks), -1, -1),
        )


def recorded(adapter, model, inputs, samples):
    with adapter.record(model, samples) as records:
        model.loss(inputs, samples)
    return records


@pytest.mark.parametrize('flips', FLIPS, ids=['x', 'y', 'both'])
@pytest.mark.parametrize('family', DOT_FAMILIES)
def test_for_dot_products_queries_of_the_flip_segment_the_features_as_they_are(family, flips):
    model = build_plain(family)
    adapter = find_adapter(model)
    inputs, samples = batch_of()
    geometry = Geometry(CANVAS, **flips)
    own = recorded(adapter, model, inputs, samples)
    moved = recorded(adapter, model, geometry(inputs), geometry.samples(samples))
    term = equivariance_loss(adapter, moved, own, geometry)
    for record in moved:  # the targets of g(I), moved back
        targets = record.context['targets']
        stride = CANVAS[0] // targets.shape[-2]
        record.context['targets'] = geometry(targets, stride)
    plain = [adapter.respond_map(q, f.pixels) for q, f in zip(moved, own, strict=True)]
    torch.testing.assert_close(term, adapter.mask_loss(moved, plain))
    assert sum(len(record.queries) for record in moved) > 0


@pytest.mark.parametrize('family', MAP_FAMILIES)
def test_without_a_transformation_the_term_is_the_mask_loss_of_the_head(family):
    model = build_plain(family)
    adapter = find_adapter(model)
    inputs, samples = batch_of()
    with adapter.record(model, samples) as records:
        losses = model.loss(inputs, samples)
    term = equivariance_loss(adapter, records, records, Geometry(CANVAS))
    if family in ('mask2former', 'sparseinst'):  # two terms there
        expected = (losses['loss_mask'] + losses['loss_dice']).reshape(())
    else:
        expected = losses['loss_vector' if family == 'solq' else 'loss_mask']
    torch.testing.assert_close(term, expected)


def test_both_the_queries_of_the_flip_and_the_features_of_the_original_take_gradient():
    model = build_plain('solov2')
    adapter = find_adapter(model)
    inputs, samples = batch_of()
    geometry = Geometry(CANVAS, flip_x=True)
    own = recorded(adapter, model, inputs, samples)
    moved = recorded(adapter, model, geometry(inputs), geometry.samples(samples))
    term = equivariance_loss(adapter, moved, own, geometry)
    found = torch.autograd.grad(
        term, [moved[0].queries, own[0].pixels, moved[0].pixels], allow_unused=True
    )
    assert found[0].abs().sum() > 0 and found[1].abs().sum() > 0
    assert found[2] is None  # the features of g(I) are not asked


class PixelWise(nn.Module):
    """A toy whose features are 1x1 convolutions and whose query is the mean inside an instance.

    It commutes with every transformation of the grid; ``skewed`` adds where a pixel lies, and it
    does not.
    """

    def __init__(self, skewed=False):
        super().__init__()
        self.project = nn.Conv2d(3, 4, 1)
        self.skewed = skewed

    def loss(self, inputs, samples):
        self.watched(inputs, samples)
        return {'loss_mask': inputs.sum() * 0}

    def watched(self, inputs, samples):
        features = self.project(nn.functional.avg_pool2d(inputs, 4))
        if self.skewed:
            ramp = torch.linspace(-1, 1, features.shape[-1])
            features = features + ramp + ramp[:, None]
        masks = [
            coverage_of(
                bitmap_of(s.gt_instances.masks, tuple(inputs.shape[-2:]), inputs.device),
                tuple(features.shape[-2:]),
            )
            for s in samples
        ]
        queries = [
            m.flatten(1) @ f.flatten(1).T / m.sum((1, 2))[:, None]
            for m, f in zip(masks, features, strict=True)
        ]
        return queries, features, masks


class PixelWiseAdapter(DotProductAdapter):
    """A user's own head needs two methods when it works with dot products."""

    def record(self, detector, samples):
        def tap(taps):
            calls = taps.calls_of(detector, 'watched')

            def read():
                return [
                    QueryRecord(q, torch.arange(len(q)), f, dict(targets=m))
                    for q, f, m in zip(*calls[-1].result, strict=True)
                ]

            return read

        return recording(tap)

    def mask_loss(self, records, logits):
        targets = torch.cat([r.context['targets'] for r in records])
        return nn.functional.binary_cross_entropy_with_logits(torch.cat(logits), targets)


@pytest.mark.parametrize('kind', ['FlipX', 'FlipY', 'Rot90'])
def test_an_equivariant_model_has_the_mask_loss_and_another_has_more(kind):
    inputs, samples = batch_of()
    values = {}
    for skewed in (False, True):
        torch.manual_seed(0)
        model = PixelWise(skewed)
        adapter = PixelWiseAdapter(model)
        records = recorded(adapter, model, inputs, samples)
        base = adapter.mask_loss(records, [adapter.respond_map(r, r.pixels) for r in records])
        step = Step(model, adapter, inputs, samples, records)
        term = Equivariance(dict(type=f'isda_suite.{kind}'), loss_weight=1.0)(step)['loss_equi']
        values[skewed] = float(term.detach() - base.detach())
    assert abs(values[False]) < 1e-6
    assert abs(values[True]) > 1e-3


def test_features_that_are_no_whole_fraction_of_the_batch_are_refused():
    with pytest.raises(ModelConfigError, match='pad_size_divisor'):
        transform_maps(Geometry((100, 96)), torch.zeros(4, 13, 12))


@pytest.mark.parametrize('option', [{'every_n': 0}, {'fraction': 0.0}, {'fraction': 1.5}])
def test_options_that_make_no_sense_are_refused(option):
    with pytest.raises(ModelConfigError, match=f'equivariance.{next(iter(option))}'):
        Equivariance(dict(type='isda_suite.FlipX'), **option)
