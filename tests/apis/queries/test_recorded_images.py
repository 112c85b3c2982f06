import random

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from isda_suite.apis.queries.recorded_images import (
    RecordedImage,
    fixed_seed,
    mask_quality,
    record_images,
    responses_to,
)
from isda_suite.engine.errors import ConfigError
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.query_adapter import QueryRecord, find_adapter
from tests.apis.drawn_rectangles import DrawnRectangles
from tests.engine.toy import ToySegmenter
from tests.methods.iuq.build import FAMILIES, build_iuq, build_plain


@pytest.mark.parametrize('family', FAMILIES)
def test_queries_are_those_of_a_training_pass(family):
    model = build_plain(family)  # its normalisation uses fixed statistics in training too
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    model.data_preprocessor.batch_augments = None  # pads to one size, in training alone
    with fixed_seed(0):
        sample = pseudo_collate([DrawnRectangles().pipeline(1)])
        data = model.data_preprocessor(sample, True)
        adapter = find_adapter(model)
        with adapter.record(model, data['data_samples']) as records:
            model.loss(data['inputs'], data['data_samples'])
    _, (image,) = record_images(model.eval(), DrawnRectangles(), [1], max_queries=10_000)
    found, expected = (one.queries.detach().sort(0).values for one in (image.record, records[0]))
    torch.testing.assert_close(found, expected)
    assert sorted(image.record.gt_inds.tolist()) == sorted(records[0].gt_inds.tolist())
    assert not model.training


@pytest.mark.parametrize('family', FAMILIES)
def test_responses_cover_the_canvas_and_the_same_call_gives_the_same(family):
    model = build_iuq(family, equivariance=False).eval()
    found = [record_images(model, DrawnRectangles(), range(4), 6) for _ in range(2)]
    (adapter, images), (_, again) = found
    assert not model.training and not model.plain.training
    assert adapter is model.adapter
    for image, other in zip(images, again, strict=True):
        assert len(image.record.queries) <= 6
        assert image.best.gt_inds.tolist() == sorted(set(image.best.gt_inds.tolist()))
        assert torch.equal(image.record.queries, other.record.queries)
        for asked in images if len(image.best.queries) else []:
            p = responses_to(adapter, image.best, asked)
            assert p.shape == (len(image.best.queries), *(s // 4 for s in asked.canvas_hw))
            known = p[~p.isnan()]
            assert ((known >= 0) & (known <= 1)).all()
            assert torch.equal(p.nan_to_num(-1), _again(adapter, other, again[asked.index]))


def _again(adapter, image, asked):
    return responses_to(adapter, image.best, asked).nan_to_num(-1)


def test_dot_products_are_the_responses():
    _, images = record_images(build_plain('solov2'), DrawnRectangles(), [0, 1], 5)
    adapter = find_adapter(build_plain('solov2'))
    queries, pixels = images[0].record.queries, images[1].record.pixels
    expected = torch.einsum('nc,chw->nhw', queries, pixels).sigmoid()
    assert torch.allclose(responses_to(adapter, images[0].record, images[1]), expected, atol=1e-6)


def test_boxes_of_regions_bound_what_a_query_is_asked():
    adapter, (image, other) = record_images(build_plain('queryinst'), DrawnRectangles(), [0, 1], 5)
    x1, y1, x2, y2 = 8.0, 16.0, 72.0, 80.0
    image.best.context['boxes'] = torch.tensor([[x1, y1, x2, y2]] * len(image.best.queries))
    p = responses_to(adapter, image.best, other)
    asked = ~p.isnan()
    assert asked[:, 4:20, 2:18].all() and int(asked[0].sum()) == 16 * 16


@pytest.mark.parametrize('family', ['condinst', 'mask2former', 'queryinst', 'solq'])
def test_an_image_without_instances_has_no_query_and_is_asked_all_the_same(family):
    adapter, (full, empty) = record_images(build_plain(family), DrawnRectangles(), [0, 3])
    assert len(empty.record.queries) == len(empty.best.queries) == len(empty.labels) == 0
    assert empty.rows is None and full.rows is not None
    assert len(mask_quality(adapter, empty, empty.best)) == 0
    assert len(responses_to(adapter, full.record, empty)) == len(full.record.queries)


def test_nothing_of_the_model_changes_and_no_generator_moves():
    model = build_plain('solov2')
    for module in model.modules():
        if hasattr(module, 'norm_eval'):
            module.norm_eval = False
    model.train()
    model.neck.eval()
    model.data_preprocessor.batch_augments = augments = [lambda *_: pytest.fail('an augmentation')]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    record_images(model, DrawnRectangles(), [0, 1])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [module.training for module in model.modules()] == modes
    assert model.data_preprocessor.batch_augments is augments
    assert all(parameter.grad is None for parameter in model.parameters())
    assert random.getstate() == drawn[0] and np.random.get_state()[1].tolist() == drawn[1]
    assert torch.equal(torch.get_rng_state(), drawn[2])


def test_the_best_query_of_an_instance_is_the_one_that_finds_it():
    adapter, (image,) = record_images(build_plain('solov2'), DrawnRectangles(), [1], 10_000)
    quality = mask_quality(adapter, image, image.record)
    best = mask_quality(adapter, image, image.best)
    for instance, value in zip(image.best.gt_inds.tolist(), best.tolist(), strict=True):
        assert value == pytest.approx(float(quality[image.record.gt_inds == instance].max()))


def test_cells_of_an_instance_and_of_the_image():
    masks = torch.zeros(3, 16, 32, dtype=torch.uint8)
    masks[0, :8, :8] = 1
    masks[1, 9, 17] = 1  # covers no half of any cell
    record = QueryRecord(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), torch.zeros(2, 4, 8))
    picture = np.zeros((13, 30, 3), np.uint8)
    image = RecordedImage(0, 'a', picture, (16, 32), masks, torch.zeros(3), record, record, None)
    inside = image.inside(torch.tensor([1, 0, 2, 1]), (4, 8))
    assert inside.flatten(1).sum(1).tolist() == [1, 4, 0, 1]
    assert inside[0, 2, 4] and inside[1, :2, :2].all()
    # Centres of cells lie at 2, 6, 10, 14 and so on.
    assert torch.equal(image.content((4, 8)), _content(rows=3, columns=7))


def _content(rows, columns):
    content = torch.zeros(4, 8, dtype=torch.bool)
    content[:rows, :columns] = True
    return content


def test_a_head_without_adapter_is_an_error_that_lists_them():
    with pytest.raises(ModelConfigError, match='SOLOv2Adapter: SOLOV2Head'):
        record_images(ToySegmenter(2), DrawnRectangles(), [0])


def test_a_pipeline_that_gives_an_image_back_is_an_error():
    data = DrawnRectangles()
    data.pipeline = lambda _: None
    with pytest.raises(ConfigError, match='image 2: the pipeline of the data gave it back'):
        record_images(build_plain('solov2'), data, [2])
