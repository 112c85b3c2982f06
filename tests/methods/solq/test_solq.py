"""Behaviour of SOLQ at the edges; numbers against the original are in tests/golden."""

import pytest
import torch

from isda_suite.methods.solq.loss import code_masks
from tests.methods.samples import (
    boxes_as_objects,
    image_of_two_boxes,
    losses_of_training,
    samples_of,
    silent_parameters,
)
from tests.methods.solq.build import small_solq

CLASSES = 3


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = small_solq(CLASSES)
    model.init_weights()
    torch.nn.init.normal_(model.bbox_head.vector_branch[-1].weight)
    return model


def test_outputs_have_the_shapes_of_their_docstring(model):
    cls_logits, boxes, codes = model.eval()._forward(torch.randn(2, 3, 64, 96))
    assert cls_logits.shape == (2, 2, 12, CLASSES)
    assert boxes.shape == (2, 2, 12, 4)
    assert codes.shape == (2, 2, 12, 40)


def test_gradient_reaches_every_parameter_with_and_without_objects(model):
    """A rank without objects must take part in the gradient exchange."""
    model.train()
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40), (30, 20, 60, 60)], CLASSES)
    for objects in (gt, gt[:0]):
        samples = samples_of((64, 64), [(64, 64)], [objects])
        losses = model.loss(torch.randn(1, 3, 64, 64), samples)
        assert all(torch.isfinite(value) for value in losses.values())
        assert silent_parameters(model, losses) == []
    assert losses['loss_vector'] == losses['loss_bbox'] == losses['d0.loss_iou'] == 0
    assert losses['class_error'] == 100


def test_loss_falls_on_one_image():
    torch.manual_seed(1)
    model = small_solq(CLASSES).train()
    model.init_weights()
    totals = losses_of_training(model, *image_of_two_boxes(), steps=30, lr=2e-3)
    assert totals[-1] < 0.7 * totals[0]


def _raw(head, images=1):
    torch.manual_seed(2)
    boxes = torch.rand(2, images, 12, 4) * 0.5 + 0.1
    return torch.randn(2, images, 12, CLASSES), boxes, torch.randn(2, images, 12, 40)


def test_an_empty_image_adds_to_the_class_loss_alone(model):
    head, gt = model.bbox_head, boxes_as_objects((64, 64), [(8, 8, 40, 40)], CLASSES)
    raw, metas = _raw(head, 2), [dict(img_shape=(64, 64))] * 2
    both = head.loss_by_feat(*raw, [gt, gt[:0]], metas)
    alone = head.loss_by_feat(*[x[:, :1] for x in raw], [gt], metas[:1])
    for name in ('loss_bbox', 'loss_iou', 'loss_vector', 'd0.loss_vector'):
        torch.testing.assert_close(both[name], alone[name])
    assert both['loss_cls'] > alone['loss_cls']


def test_the_mean_of_codes_is_over_matches_or_the_sum_over_objects(model):
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40), (20, 4, 60, 30)], CLASSES)
    metas, losses = [dict(img_shape=(64, 64))], {}
    for average in ('matches', 'objects'):
        head = small_solq(CLASSES, vector_avg=average).bbox_head
        losses[average] = head.loss_by_feat(*_raw(head), [gt], metas)
    torch.testing.assert_close(
        losses['objects']['loss_vector'], 40 * losses['matches']['loss_vector']
    )


def test_early_layers_may_learn_no_masks():
    head = small_solq(CLASSES, vector_start_layer=1, log_errors=False).bbox_head
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40)], CLASSES)
    losses = head.loss_by_feat(*_raw(head), [gt], [dict(img_shape=(64, 64))])
    assert losses['d0.loss_vector'] == 0 < losses['loss_vector']
    assert 'class_error' not in losses


def test_more_objects_than_queries_are_matched_as_far_as_they_go(model):
    boxes = [(4 * i, 4 * i, 4 * i + 8, 4 * i + 8) for i in range(13)]
    gt = boxes_as_objects((64, 64), boxes, CLASSES)
    head, metas = model.bbox_head, [dict(img_shape=(64, 64))]
    raw = _raw(head)
    (match,) = head.match(raw[0][0], raw[1][0], [gt], metas)
    assert match.query_inds.tolist() == list(range(12))
    assert len(set(match.gt_inds.tolist())) == 12
    losses = head.loss_by_feat(*raw, [gt], metas)
    assert all(torch.isfinite(value) for value in losses.values())


def test_a_mask_that_fills_its_box_has_one_coefficient(model):
    coder = model.bbox_head.mask_coder
    boxes = [(8, 8, 40, 40), (10, 12, 11, 13)]
    full, one_pixel = code_masks(boxes_as_objects((64, 64), boxes, CLASSES), coder)
    wanted = torch.zeros(coder.keep)
    wanted[0] = coder.size
    torch.testing.assert_close(full, wanted, rtol=0, atol=1e-4)
    # Resampled, a single pixel loses its corners; the first value is area / size.
    assert coder.size / 2 < one_pixel[0] < coder.size
    assert code_masks(boxes_as_objects((64, 64), [], CLASSES), coder).shape == (0, coder.keep)


def test_a_batch_gives_what_single_images_give(model):
    model.eval()
    images, metas = torch.randn(2, 3, 64, 96), samples_of((64, 96), [(64, 96), (50, 70)])
    with torch.no_grad():
        both = model.predict(images, metas)
        for i in range(2):
            single = model.predict(images[i : i + 1], metas[i : i + 1])[0].pred_instances
            found = both[i].pred_instances
            torch.testing.assert_close(found.scores, single.scores, rtol=1e-4, atol=1e-6)
            assert found.masks.shape == (36, *metas[i].ori_shape)
            assert torch.equal(found.scores, found.scores.sort(descending=True).values)


def test_results_come_at_the_size_that_is_asked_for(model):
    model.eval()
    metas = samples_of((64, 64), [(60, 64)], ori_hw=[(30, 32)])
    with torch.no_grad():
        large, small = (
            model.predict(torch.ones(1, 3, 64, 64), metas, rescale=rescale)[0].pred_instances
            for rescale in (False, True)
        )
    assert large.masks.shape[1:] == (60, 64) and small.masks.shape[1:] == (30, 32)
    torch.testing.assert_close(large.bboxes, 2 * small.bboxes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(vector_avg='mean'), 'vector_avg: expected one of'),
        (dict(as_two_stage=True), 'as_two_stage: SOLQ has no proposals'),
        (dict(with_box_refine=False), 'with_box_refine: SOLQ refines its boxes'),
        (dict(mask_coder=dict(type='isda_suite.DCTMaskCoder', size=4, keep=17)), '1 to 16'),
    ],
)
def test_unknown_variants_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small_solq(CLASSES, **changes)


def test_bfloat16_autocast_keeps_losses_in_float32(model):
    model.train()
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40)], CLASSES)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(torch.randn(1, 3, 64, 64), samples_of((64, 64), [(64, 64)], [gt]))
    assert {value.dtype for name, value in losses.items() if 'loss' in name} == {torch.float32}
    assert all(torch.isfinite(value) for value in losses.values())


def test_initialisation_starts_without_masks_and_with_rare_objects():
    model = small_solq(CLASSES)
    model.init_weights()
    head = model.bbox_head
    assert head.vector_branch[-1].weight.abs().max() == head.vector_branch[-1].bias.abs().max() == 0
    assert head.reg_branches[0][-1].bias.tolist() == [0, 0, -2, -2]
    assert head.reg_branches[1][-1].bias.tolist() == [0, 0, 0, 0]
    bias = head.cls_branches[1].bias.detach()
    torch.testing.assert_close(bias, torch.full((CLASSES,), -4.5951), rtol=0, atol=1e-4)
    assert model.encoder.layers[0].self_attn.sampling_offsets.weight.abs().max() == 0
    assert head.cls_branches[0] is not head.cls_branches[1]
