"""Behaviour of ISDA at the edges; numbers against the original are in tests/golden."""

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine import Config
from mmengine.structures import InstanceData

from isda_suite.registry import MODELS
from isda_suite.resources import resource_root
from tests.methods.isda.build import samples_of, small_isda

CLASSES = 3


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return small_isda(CLASSES)


def ground_truth(size_hw, boxes, labels=None):
    masks = np.zeros((len(boxes), *size_hw), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    labels = torch.arange(len(boxes)) % CLASSES if labels is None else torch.tensor(labels)
    return InstanceData(labels=labels, masks=BitmapMasks(masks, *size_hw))


def samples(batch_hw, img_hw, gts=None, ori_hw=None):
    made = samples_of(
        {'batch_input_shape': batch_hw, 'img_shapes': img_hw, 'ori_shapes': ori_hw or img_hw}
    )
    for sample, gt in zip(made, gts or [], strict=False):
        sample.gt_instances = gt
    return made


def test_a_batch_gives_what_single_images_give(model):
    """The mask feature map belongs to the image, not to the batch."""
    model.eval()
    images = torch.randn(2, 3, 64, 96)
    metas = samples((64, 96), [(64, 96), (50, 70)])
    with torch.no_grad():
        both = model.predict(images, metas)
        for i in range(2):
            single = model.predict(images[i : i + 1], metas[i : i + 1])[0].pred_instances
            torch.testing.assert_close(
                both[i].pred_instances.scores, single.scores, rtol=1e-4, atol=1e-6
            )
            assert torch.equal(both[i].pred_instances.masks, single.masks)


@pytest.mark.parametrize('size_hw', [(32, 32), (32, 96), (96, 32)])
def test_smallest_inputs_work(model, size_hw):
    """At 32 pixels the last two levels are a single row."""
    model.eval()
    with torch.no_grad():
        found = model.predict(torch.randn(1, 3, *size_hw), samples(size_hw, [size_hw]))
    found = found[0].pred_instances
    assert found.masks.shape[1:] == size_hw
    assert len(found) == min(100, model.num_queries * CLASSES)


def test_results_are_sorted_and_boxes_surround_the_masks(model):
    model.eval()
    with torch.no_grad():
        metas = samples((64, 96), [(60, 90)], ori_hw=[(45, 77)])
        found = model.predict(torch.randn(1, 3, 64, 96), metas)[0].pred_instances
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)
    assert found.masks.shape[1:] == (45, 77)
    for mask, box in zip(found.masks, found.bboxes, strict=True):
        ys, xs = mask.nonzero(as_tuple=True)
        want = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
        assert box.tolist() == [float(v) for v in want]


def test_input_size_that_is_no_multiple_of_32_says_so(model):
    with pytest.raises(ValueError, match=r'multiples of 32, got 64 x 100.*pad_size_divisor=32'):
        model.extract_feat(torch.zeros(1, 3, 64, 100))


def test_gradient_reaches_every_parameter_with_and_without_objects(model):
    """A rank without instances must take part in the gradient exchange."""
    model.train()
    gt = ground_truth((64, 64), [(8, 8, 40, 40), (30, 20, 60, 60)])
    for gts in ([gt], [gt[:0]]):
        model.zero_grad()
        losses = model.loss(torch.randn(1, 3, 64, 64), samples((64, 64), [(64, 64)], gts))
        torch.stack(list(losses.values())).sum().backward()
        assert all(torch.isfinite(v) for v in losses.values())
        silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not silent


def test_loss_falls_on_one_image():
    torch.manual_seed(1)
    model = small_isda(CLASSES).train()
    gt = ground_truth((64, 64), [(8, 8, 30, 30), (34, 36, 60, 60)])
    image = torch.from_numpy(np.random.RandomState(0).rand(1, 3, 64, 64)).float()
    image[:, 0, 8:30, 8:30] += 2
    image[:, 1, 36:60, 34:60] += 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(30):
        losses = model.loss(image, samples((64, 64), [(64, 64)], [gt]))
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert totals[-1] < 0.7 * totals[0]


def test_matched_mask_loss_equals_dice_over_all_queries_with_weights(model):
    """Leaving unmatched masks out changes neither value nor gradient."""
    torch.manual_seed(2)
    head = model.bbox_head
    cls_logits = torch.randn(2, 12, CLASSES)
    kernels = torch.randn(2, 12, 64, requires_grad=True)
    feature = torch.rand(2, 64, 16, 16, requires_grad=True)
    gts = [
        ground_truth((64, 64), [(0, 0, 30, 30), (20, 20, 64, 64)]),
        ground_truth((64, 64), [(5, 40, 50, 60)]),
    ]
    targets = [head.targets_of(gt, feature) for gt in gts]
    lean = head.loss_by_feat(cls_logits[None], kernels[None], feature, gts)['loss_mask']
    lean_grads = torch.autograd.grad(lean, (kernels, feature))
    full = torch.einsum('bqc,bchw->bqhw', kernels, feature).sigmoid()
    goal, weight = torch.zeros_like(full), torch.zeros(2, 12)
    for i, match in enumerate(head.match(cls_logits, kernels, feature, targets)):
        goal[i, match.query_inds] = targets[i].masks[match.gt_inds]
        weight[i, match.query_inds] = 1
    dice = head.loss_mask(
        full.flatten(0, 1), goal.flatten(0, 1), weight.flatten(), avg_factor=3 + 1e-5
    )
    torch.testing.assert_close(lean, dice)
    torch.testing.assert_close(lean_grads, torch.autograd.grad(dice, (kernels, feature)))


@pytest.mark.parametrize('threshold', [None, 0.5])
def test_queries_in_a_crowd_are_no_negatives_where_that_is_asked_for(threshold):
    torch.manual_seed(3)
    model = small_isda(CLASSES, train_cfg=dict(ignore_iof_thr=threshold)).train()
    gt = ground_truth((64, 64), [(0, 0, 20, 20)])
    crowd = ground_truth((64, 64), [(0, 0, 64, 64)])
    crowd.bboxes = torch.tensor([[0.0, 0, 64, 64]])
    cls_logits = torch.zeros(2, 1, 12, CLASSES, requires_grad=True)
    kernels, feature = torch.randn(2, 1, 12, 64), torch.rand(1, 64, 16, 16)
    losses = model.bbox_head.loss_by_feat(cls_logits, kernels, feature, [gt], [crowd])
    losses['loss_cls'].backward()
    # One query of the layer is matched; all masks lie in the crowd, which is the whole image.
    moved = cls_logits.grad[1, 0].abs().sum(-1) > 0
    assert int(moved.sum()) == (12 if threshold is None else 1)


def test_polygon_targets_are_accepted(model):
    square = np.array([8.0, 8, 40, 8, 40, 40, 8, 40])
    gt = InstanceData(labels=torch.tensor([0]), masks=PolygonMasks([[square]], 64, 64))
    target = model.bbox_head.targets_of(gt, torch.zeros(1, 64, 16, 16))
    assert target.masks[0, 5, 5] == 1
    assert target.masks[0, 0, 0] == 0


def test_both_mask_feature_sources_and_position_modes_train():
    for changes in (dict(mask_feat_source='encoder'), dict(position_mode='none')):
        model = small_isda(CLASSES, **changes).train()
        gt = ground_truth((64, 64), [(8, 8, 40, 40)])
        losses = model.loss(torch.randn(1, 3, 64, 64), samples((64, 64), [(64, 64)], [gt]))
        assert all(torch.isfinite(v) for v in losses.values())


def test_forward_without_samples_serves_the_flops_counter(model):
    cls_logits, kernels, feature = model.eval()._forward(torch.randn(2, 3, 64, 96))
    assert cls_logits.shape[1:] == (2, model.num_queries, CLASSES)
    assert kernels.shape[-1] == feature.shape[1]


def test_bfloat16_autocast_keeps_masks_in_float32(model):
    model.train()
    gt = ground_truth((64, 64), [(8, 8, 40, 40)])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(torch.randn(1, 3, 64, 64), samples((64, 64), [(64, 64)], [gt]))
    assert {v.dtype for v in losses.values()} == {torch.float32}
    assert all(torch.isfinite(v) for v in losses.values())


def test_the_same_config_builds_twice():
    small_isda(CLASSES)
    cfg = Config.fromfile(resource_root() / 'configs/isda/isda_r50_3x_coco.py').model
    cfg.backbone.init_cfg = None
    with torch.device('meta'):
        first, second = MODELS.build(cfg), MODELS.build(cfg)
    assert first.bbox_head.num_classes == second.bbox_head.num_classes == 80


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(mask_feat_source='decoder'), 'mask_feat_source: expected one of'),
        (dict(position_mode='xy'), 'position_mode: expected one of'),
        (dict(target_down='nearest'), 'target_down: expected one of'),
        (dict(with_box_refine=True), 'with_box_refine'),
        (dict(as_two_stage=True), 'as_two_stage'),
    ],
)
def test_unknown_variants_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small_isda(CLASSES, **changes)


def test_initialisation_follows_the_table():
    model = small_isda(CLASSES)
    model.init_weights()
    torch.testing.assert_close(
        model.bbox_head.cls_branches[0].bias, torch.full((CLASSES,), -4.5951), rtol=0, atol=1e-4
    )
    assert model.mask_feat_head.conv_pred.conv.weight.std() < 0.02
    assert float(model.encoder.layers[0].self_attn.sampling_offsets.weight.abs().max()) == 0
    offsets = model.decoder.layers[0].cross_attn.sampling_offsets.bias.view(-1, 2)
    assert float(offsets.abs().max()) == model.decoder.layers[0].cross_attn.num_points
    assert model.bbox_head.cls_branches[0] is model.bbox_head.cls_branches[-1]
