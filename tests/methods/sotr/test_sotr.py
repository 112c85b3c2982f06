"""Behaviour of SOTR at the edges; numbers against the original are in tests/golden."""

import pytest
import torch

from isda_suite.methods.sotr import TwinTransformer
from tests.methods.samples import (
    boxes_as_objects,
    image_of_two_boxes,
    losses_of_training,
    samples_of,
    silent_parameters,
)
from tests.methods.sotr.build import small_sotr

CLASSES = 3


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = small_sotr(CLASSES)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if 'gain' in name:
            torch.nn.init.constant_(parameter, 0.3)
    return model


def test_outputs_have_the_shapes_of_their_docstring(model):
    (outputs,) = model.eval()._forward(torch.randn(2, 3, 64, 96))
    kernels, logits, feature = outputs
    assert feature.shape == (2, 32, 16, 24)
    assert float(feature.detach().min()) >= 0
    for grid, kernel, cells in zip(model.mask_head.num_grids, kernels, logits, strict=True):
        assert kernel.shape == (2, 32, grid, grid)
        assert cells.shape == (2, CLASSES, grid, grid)


def test_gradient_reaches_every_parameter_with_and_without_objects(model):
    """A rank without objects must take part in the gradient exchange."""
    model.train()
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40), (30, 20, 60, 60)], CLASSES)
    for objects in (gt, gt[:0]):
        samples = samples_of((64, 64), [(64, 64)], [objects])
        losses = model.loss(torch.randn(1, 3, 64, 64), samples)
        assert all(torch.isfinite(value) for value in losses.values())
        assert silent_parameters(model, losses) == []
    assert losses['loss_mask'] == 0


def test_an_empty_image_beside_a_full_one_changes_no_mask_loss(model):
    head = model.mask_head
    raw = head([torch.randn(2, 32, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64)])
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40)], CLASSES)
    metas = [dict(img_shape=(64, 64))] * 2
    both = head.loss_by_feat(*raw, [gt, gt[:0]], metas)
    alone = head.loss_by_feat(*_first_image(raw), [gt], metas[:1])
    torch.testing.assert_close(both['loss_mask'], alone['loss_mask'])
    assert both['loss_cls'] > alone['loss_cls']


def _first_image(raw):
    kernels, logits, feature = raw
    return [x[:1] for x in kernels], [x[:1] for x in logits], feature[:1]


def test_loss_falls_on_one_image():
    torch.manual_seed(1)
    model = small_sotr(CLASSES).train()
    model.init_weights()
    totals = losses_of_training(model, *image_of_two_boxes(), steps=30, lr=3e-3)
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize('average', ['targets', 'cells'])
def test_two_objects_in_one_cell_are_two_targets_of_it(average):
    """Half the loss over targets is what the published mean says; mmdet divides by cells."""
    model = small_sotr(CLASSES, mask_avg=average, pos_scale=0.01)
    head = model.mask_head
    gt = boxes_as_objects((64, 64), [(8, 8, 28, 28)] * 2, CLASSES, labels=[0, 2])
    kernels = [torch.zeros(1, 32, g, g) for g in head.num_grids]
    logits = [torch.zeros(1, CLASSES, g, g) for g in head.num_grids]
    metas = [dict(img_shape=(64, 64))]
    masks, labels, positive, cells = head.targets_of([gt], metas, (16, 16))[0]
    assert len(masks[0]) == len(cells[0]) == 2
    assert int(positive[0].sum()) == 1
    assert labels[0].flatten()[cells[0][0]] == 2, 'the later object has the class'
    feature = torch.ones(1, 32, 16, 16)
    found = float(head.loss_by_feat(kernels, logits, feature, [gt], metas)['loss_mask'])
    target, mask = masks[0][0].float(), torch.full((16, 16), 0.5)
    dice = 1 - 2 * (mask * target).sum() / (mask.square().sum() + target.sum() + 2e-3)
    wanted = 3 * float(dice) * (1 if average == 'targets' else 2)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_objects_on_a_boundary_are_in_both_levels_and_empty_ones_in_none(model):
    gt = boxes_as_objects((64, 64), [(8, 8, 28, 28), (0, 0, 16, 16)], CLASSES)
    gt.masks.masks[1] = 0
    masks, *_ = model.mask_head.targets_of([gt], [dict(img_shape=(64, 64))], (16, 16))[0]
    assert [len(level) > 0 for level in masks] == [True, True, False, False, False]


def test_padding_of_masks_does_not_move_targets(model):
    gt = boxes_as_objects((50, 63), [(8, 8, 48, 40)], CLASSES)
    padded = gt[:]
    padded.masks = gt.masks.pad((64, 64))
    metas = [dict(img_shape=(50, 63))]
    first, second = (model.mask_head.targets_of([g], metas, (16, 16))[0][0] for g in (gt, padded))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_batch_gives_what_single_images_give(model):
    model.eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        kernels, logits, feature = model._forward(images)[0]
        for i in range(2):
            single = model._forward(images[i : i + 1])[0]
            together = (*kernels, *logits, feature)
            for a, b in zip(together, (*single[0], *single[1], single[2]), strict=True):
                torch.testing.assert_close(a[i : i + 1], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('height', [33, 65, 97])
def test_masks_are_enlarged_by_the_stride_whatever_the_height(model, height):
    """The published code derives the factor from the height and misplaces masks of such images."""
    head, padded = model.mask_head, -(-height // 32) * 32
    feature = torch.zeros(1, 32, padded // 4, 16)
    feature[:, 0, :, :8], feature[:, 0, :, 8:] = 1, -1
    logits = [torch.full((1, CLASSES, g, g), -9.0) for g in head.num_grids]
    kernels = [torch.zeros(1, 32, g, g) for g in head.num_grids]
    logits[2][0, 1, 3, 3], kernels[2][0, 0, 3, 3] = 4, 10
    meta = dict(img_shape=(height, 60), ori_shape=(height, 60))
    found = head.predict_by_feat(kernels, logits, feature, [meta])[0]
    assert found.labels.tolist() == [1]
    assert found.masks.shape == (1, height, 60)
    assert found.masks[0, :, :32].all() and not found.masks[0, :, 32:].any()
    assert found.bboxes.tolist() == [[0, 0, 32, height]]


def test_a_grid_of_one_cell_works():
    model = small_sotr(CLASSES, num_grids=[1, 1, 1, 1, 1]).train()
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40)], CLASSES)
    losses = model.loss(torch.randn(1, 3, 64, 64), samples_of((64, 64), [(64, 64)], [gt]))
    assert all(torch.isfinite(value) for value in losses.values())


def test_a_new_transformer_is_the_identity_and_gains_come_first():
    torch.manual_seed(2)
    x = torch.randn(1, 8, 3, 5)
    for options in ({}, {'duplicate': 'none'}):
        transformer = TwinTransformer(8, depth=2, num_heads=2, **options)
        torch.testing.assert_close(transformer(x), x)
        transformer(x).square().sum().backward()
        moved = {n for n, p in transformer.named_parameters() if p.grad.abs().sum() > 0}
        assert {n.split('.')[2] for n in moved} == {'column_gain', 'row_gain', 'conv_gains'}


def test_options_of_the_transformer_change_what_they_say():
    torch.manual_seed(3)
    plain = TwinTransformer(8, depth=2, num_heads=2)
    for layer in plain.layers:
        torch.nn.init.constant_(layer.row_gain, 1.0)
    single = TwinTransformer(8, depth=2, num_heads=2, duplicate='none')
    single.load_state_dict(plain.state_dict())
    recomputed = TwinTransformer(8, depth=2, num_heads=2, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(1, 8, 3, 5, requires_grad=True)
    # Attention over two equal copies is attention over one.
    torch.testing.assert_close(plain(x), single(x))
    grads = [torch.autograd.grad(t(x).square().sum(), x)[0] for t in (plain, recomputed)]
    torch.testing.assert_close(*grads)
    placed = TwinTransformer(8, depth=1, num_heads=2, pos_embed='axial')
    shifted = placed(x) - x
    torch.testing.assert_close(
        shifted[..., :, 1:] - shifted[..., :, :1],
        (shifted[..., :, 1:] - shifted[..., :, :1])[..., :1, :].expand(1, 8, 3, 4),
    )
    assert shifted.abs().max() > 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(duplicate='height'), r'transformer\.duplicate: expected one of'),
        (dict(pos_embed='sine'), r'transformer\.pos_embed: expected one of'),
        (dict(num_heads=5), 'embed_dims=32 cannot be split into num_heads=5'),
        (dict(mask_avg='mean'), 'mask_avg: expected one of'),
        (dict(dynamic_conv_size=3), 'kernels of one pixel'),
    ],
)
def test_unknown_variants_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small_sotr(CLASSES, **changes)


def test_input_size_that_is_no_multiple_of_32_says_so(model):
    with pytest.raises(ValueError, match=r'multiples of 32, got 64 x 100.*pad_size_divisor=32'):
        model.extract_feat(torch.zeros(1, 3, 64, 100))


def test_bfloat16_autocast_keeps_losses_in_float32(model):
    model.train()
    gt = boxes_as_objects((64, 64), [(8, 8, 40, 40)], CLASSES)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model.loss(torch.randn(1, 3, 64, 64), samples_of((64, 64), [(64, 64)], [gt]))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert all(torch.isfinite(value) for value in losses.values())


def test_initialisation_follows_the_table():
    head = small_sotr(CLASSES).mask_head
    head.init_weights()
    bias = head.cls_branch.bias.detach()
    torch.testing.assert_close(bias, torch.full((CLASSES,), -4.5951), rtol=0, atol=1e-4)
    for conv in (head.mask_feature_head.conv_pred, head.mask_feature_head.convs_all_levels[3][0]):
        assert conv.conv.weight.std() < 0.02
    branch = head.transformer.layers[0].conv_branches[0][0].weight
    assert float(branch.detach().abs().max()) <= (32 * 9) ** -0.5
    assert branch.std() > 0.02, 'the head must not set the convolutions of the transformer'
