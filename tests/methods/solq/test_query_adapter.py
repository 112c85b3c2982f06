"""SOLQ's adapter: what a query reads in features; the laws of all adapters are tested with IUQ."""

import pytest
import torch

from isda_suite.layers.query_adapter import find_adapter
from isda_suite.registry import MODELS
from tests.methods.iuq.build import batch_of, model_of


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = MODELS.build(model_of('solq')).train()
    torch.nn.init.normal_(model.level_embed)
    return model


def recorded(model, samples, inputs):
    adapter = find_adapter(model)
    with adapter.record(model, samples) as records:
        losses = model.loss(inputs, samples)
    return adapter, records, losses


@pytest.mark.parametrize('vector_avg', ['matches', 'objects'])
def test_beside_padding_the_mask_loss_is_still_that_of_the_head(model, vector_avg, monkeypatch):
    monkeypatch.setattr(model.bbox_head, 'vector_avg', vector_avg)
    inputs, samples = batch_of(width=192)
    samples[0].set_metainfo(dict(img_shape=(128, 128)))
    samples[0].gt_instances = samples[0].gt_instances[:1]
    samples[0].gt_instances.bboxes = torch.tensor([[10.0, 20.0, 60.0, 80.0]])
    adapter, records, losses = recorded(model, samples, inputs)
    assert not bool((records[0].pixels[0][-1] > 0).all()), 'padding is known'
    assert bool((records[1].pixels[0][-1] > 0).all())
    logits = [adapter.respond_map(record, record.pixels) for record in records]
    torch.testing.assert_close(adapter.mask_loss(records, logits), losses['loss_vector'])


def test_a_region_answers_like_the_map_it_was_cut_from(model):
    """Exactly so where the map is the same everywhere and the box far from its border."""
    adapter, records, _ = recorded(model, batch_of()[1], batch_of()[0])
    record = records[0]
    size = model.bbox_head.mask_coder.size
    maps = tuple(
        torch.cat([torch.randn(32, 1, 1).expand(-1, *level.shape[1:]), torch.ones_like(level[:1])])
        for level in record.pixels
    )
    box = torch.tensor([0.5, 0.5, 0.1, 0.1])
    record.context['references'] = box.expand(len(record.queries), 1, 4)
    record.context['boxes'] = torch.tensor([[57.6, 57.6, 70.4, 70.4]])
    record.pixels = maps
    whole = adapter.respond_map(record, maps)
    rows, gt_inds = adapter.rows_of(record)
    assert gt_inds.tolist() == [0] and rows.shape == (1, adapter.row_pixels * 33)
    region = adapter.respond(record.queries, rows)
    assert region.shape == (len(record.queries), 1, size // 4, size // 4)
    torch.testing.assert_close(region[:, 0], whole[:, ::4, ::4], rtol=1e-4, atol=1e-4)


def test_queries_take_gradient_and_beside_the_image_nothing_is_read(model):
    adapter, records, _ = recorded(model, batch_of()[1], batch_of()[0])
    rows, _ = adapter.rows_of(records[1])
    queries = records[0].queries.detach().requires_grad_()
    logits = adapter.respond(queries, rows.detach())
    assert torch.autograd.grad(logits.sum(), queries)[0].abs().sum() > 0
    others = rows.detach().view(len(rows), 4, 33, 49).clone()
    others[:, :, :-1] += 1
    assert not torch.equal(adapter.respond(queries, others.flatten(1)), logits)
    rows = rows.detach().view(len(rows), 4, 33, 49).clone()
    rows[:, :, -1], others[:, :, -1] = 0, 0
    assert torch.equal(
        adapter.respond(queries, others.flatten(1)), adapter.respond(queries, rows.flatten(1))
    )


def test_a_decoded_code_is_the_same_at_every_nth_place(model):
    coder = model.bbox_head.mask_coder
    codes = torch.randn(3, coder.keep)
    torch.testing.assert_close(coder.decode(codes, 3), coder.decode(codes)[:, ::3, ::3])
