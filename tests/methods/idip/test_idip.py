"""Behaviour of IDIP at the edges; numbers against the original are in tests/golden."""

import copy

import pytest
import torch
from mmengine.structures import InstanceData

from isda_suite.methods.idip.targets import checked_targets
from tests.methods.idip.build import instances, samples, small_idip

SIZE = (64, 96)
BOXES = [(4, 4, 40, 40), (30, 20, 90, 60)]


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return small_idip()


def total(losses):
    return torch.stack(list(losses.values())).sum()


def train_losses(model, gts, size=SIZE):
    torch.manual_seed(1)
    images = torch.randn(len(gts), 3, *size)
    return model.train().loss(images, samples([size] * len(gts), gts))


def test_a_batch_gives_what_single_images_give(model):
    """The random numbers belong to the image, not to its place in the batch."""
    model.eval()
    torch.manual_seed(0)
    images, sizes, ids = torch.randn(3, 3, *SIZE), [SIZE, (50, 70), (64, 80)], [7, 'b.png', 3]
    with torch.no_grad():
        together = model.predict(images, samples(sizes, ids=ids))
        for i in (2, 0, 1):
            one = samples(sizes[i : i + 1], ids=ids[i : i + 1])
            single = model.predict(images[i : i + 1], one)[0].pred_instances
            found = together[i].pred_instances
            assert torch.equal(found.labels, single.labels)
            torch.testing.assert_close(found.scores, single.scores, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found.bboxes, single.bboxes, rtol=1e-4, atol=1e-3)
            assert (found.masks != single.masks).float().mean() < 1e-3


def test_the_same_batch_gives_the_same_bits_and_another_seed_others(model):
    model.eval()
    images = torch.randn(2, 3, *SIZE)

    def scores(seed):
        model.test_cfg['seed'] = seed
        with torch.no_grad():
            found = model.predict(images, samples([SIZE, SIZE]))
        return [one.pred_instances.scores for one in found]

    first, again, other = scores(0), scores(0), scores(5)
    model.test_cfg['seed'] = 0
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0][:5], other[0][:5])
    assert not torch.equal(first[0], first[1]), 'images differ in their random numbers'


def test_the_log_states_the_seed_once(model, monkeypatch):
    said = []
    monkeypatch.setattr('isda_suite.methods.idip.detector.print_log', lambda m, **_: said.append(m))
    model.eval()
    for seed in (8, 8, 9):
        model.test_cfg['seed'] = seed
        with torch.no_grad():
            model.predict(torch.randn(1, 3, *SIZE), samples([SIZE]))
    model.test_cfg['seed'] = 0
    assert len(said) == 2
    assert '12 random boxes an image from seed 8' in said[0] and 'DDIM in 3 steps' in said[0]


def test_a_training_that_has_diverged_ends_in_a_loss_that_is_not_finite(model):
    broken = copy.deepcopy(model)
    torch.nn.init.constant_(broken.roi_head.box_head.fc_reg.bias, torch.nan)
    losses = train_losses(broken, [instances(SIZE, BOXES)])
    assert not total(losses).isfinite()


@pytest.mark.parametrize('changes', [{}, {'test_cfg.clip_before_mask': True}])
def test_results_are_sorted_and_lie_in_the_original_image(changes):
    torch.manual_seed(3)
    model = small_idip(**changes).eval()
    with torch.no_grad():
        metas = samples([(60, 90)], ori_hw=[(45, 77)])
        found = model.predict(torch.randn(1, 3, *SIZE), metas)[0].pred_instances
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)
    assert found.masks.shape == (len(found), 45, 77) and found.masks.dtype == torch.bool
    assert (found.bboxes[:, 2:] > found.bboxes[:, :2]).all() and (found.bboxes >= 0).all()
    assert (found.bboxes[:, 2] <= 77).all() and (found.bboxes[:, 3] <= 45).all()


def test_boxes_and_steps_are_chosen_at_test_time(model):
    model.eval()
    feats = model.extract_feat(torch.randn(1, 3, *SIZE))
    before = copy.copy(model.test_cfg)
    for steps, boxes in ((1, 3), (4, 40)):
        model.test_cfg.update(sampling_steps=steps, num_proposals=boxes)
        seen = list(model.sample(feats, [dict(img_shape=SIZE, img_id=1)]))
        assert [step.logits.shape for step in seen] == [(1, boxes, 3)] * steps
        assert len(model.decode(feats, seen[0], [dict(img_shape=SIZE, ori_shape=SIZE)])[0]) <= boxes
    model.test_cfg = before


def test_an_ensemble_counts_the_predictions_of_all_steps(model):
    model.eval()
    images, before = torch.randn(1, 3, *SIZE), dict(model.test_cfg)

    def found(**options):
        model.test_cfg = before | options
        with torch.no_grad():
            return model.predict(images, samples([SIZE]))[0].pred_instances

    try:
        everything = found(ensemble=True, nms_iou_thr=1, sampling_steps=3)
        with torch.no_grad():
            steps = list(model.sample(model.extract_feat(images), [samples([SIZE])[0].metainfo]))
        once, alone = found(ensemble=True, sampling_steps=1), found(sampling_steps=1)
        fewer = found(ensemble=True, nms_iou_thr=0.3, sampling_steps=3)
    finally:
        model.test_cfg = before
    assert len(steps) == 3
    probs = torch.cat([step.logits[0] for step in steps]).sigmoid()
    best = probs.flatten().sort(descending=True).values[: len(probs)]
    inside = everything.scores  # boxes without area inside the image are left out
    assert len(inside) > len(alone) and torch.isin(inside, best).all()
    assert everything.proposal_inds.max() >= probs.shape[0] * 2 // 3, 'the last step counts too'
    assert everything.proposal_inds.min() < probs.shape[0] // 3, 'and the first'
    assert torch.equal(once.scores, alone.scores) and torch.equal(once.masks, alone.masks)
    assert len(fewer) < len(everything)


@pytest.mark.parametrize('batching', ['loop', 'grouped', 'joint'])
@pytest.mark.parametrize('gts', [[], BOXES], ids=['no objects', 'objects'])
def test_gradient_reaches_every_parameter(batching, gts):
    """A rank without instances must take part in the gradient exchange."""
    torch.manual_seed(0)
    model = small_idip(**{'roi_head.mask_head.batching': batching})
    losses = train_losses(model, [instances(SIZE, gts), instances(SIZE, [])])
    total(losses).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    statistics = [b for n, b in model.roi_head.mask_head.named_buffers() if 'running' in n]
    assert all(torch.isfinite(one).all() for one in statistics)


def test_without_any_object_the_losses_are_zero_unless_empty_images_are_used():
    for used in (False, True):
        model = small_idip(**{'roi_head.loss.use_empty_images': used})
        losses = train_losses(model, [InstanceData()])
        assert (float(losses['loss_cls']) > 0) is used
        assert float(losses['loss_mask']) == float(losses['loss_bbox']) == 0


def test_an_empty_image_changes_nothing_for_the_other(model):
    """Published: images without targets give not even negatives."""
    torch.manual_seed(1)
    images = torch.randn(2, 3, *SIZE)
    gts = [instances(SIZE, BOXES), instances(SIZE, [])]
    model.train().zero_grad()
    found = []
    for count in (1, 2):
        torch.manual_seed(2)
        found.append(model.loss(images[:count], samples([SIZE] * count, gts[:count])))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-5)


def test_loss_falls_on_one_image():
    torch.manual_seed(1)
    model = small_idip().train()
    image = torch.rand(1, 3, *SIZE)
    image[:, 0, 4:40, 4:40] += 2
    image[:, 1, 20:60, 30:90] += 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for step in range(30):
        torch.manual_seed(step % 3)
        value = total(model.loss(image, samples([SIZE], [instances(SIZE, BOXES)])))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        totals.append(float(value))
    assert sum(totals[-3:]) < 0.8 * sum(totals[:3])


@pytest.mark.parametrize(
    'frozen', [{'norm_eval': True}, {'norm_cfg': dict(type='GN', num_groups=4)}]
)
def test_the_batched_mask_branch_equals_the_loop_where_statistics_do_not_forbid_it(frozen):
    gts = [instances(SIZE, BOXES), instances(SIZE, BOXES[:1]), instances(SIZE, [])]
    results = []
    for batching in ('loop', 'grouped', 'joint'):
        torch.manual_seed(0)
        options = {f'roi_head.mask_head.{key}': value for key, value in frozen.items()}
        model = small_idip(**options, **{'roi_head.mask_head.batching': batching})
        losses = train_losses(model, gts)
        total(losses).backward()
        grads = [p.grad.norm() for p in model.roi_head.mask_head.parameters()]
        results.append([losses['loss_mask'].detach(), *grads])
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-4, atol=1e-5)


def test_grouped_statistics_are_those_of_the_loop():
    gts = [instances(SIZE, BOXES), instances(SIZE, []), instances(SIZE, BOXES[1:])]
    found = {}
    for batching in ('loop', 'grouped', 'joint'):
        torch.manual_seed(0)
        model = small_idip(**{'roi_head.mask_head.batching': batching})
        losses = train_losses(model, gts)
        found[batching] = [losses['loss_mask'], *model.roi_head.mask_head.buffers()]
    torch.testing.assert_close(found['loop'], found['grouped'], rtol=1e-4, atol=1e-5)
    counts = [[int(b) for b in values[1:] if b.ndim == 0] for values in found.values()]
    # Two stages and two images with objects, or once.
    assert set(counts[0]) == set(counts[1]) == {4} and set(counts[2]) == {1}


@pytest.mark.parametrize('num_classes', [1, 2, 3, 4, 32, 64])
def test_any_number_of_classes_starts_with_all_weights_alive(num_classes):
    """The original writes the prior into whatever has that many columns."""
    torch.manual_seed(0)
    model = small_idip(num_classes)
    parts = dict(model.roi_head.named_parameters())
    same = [n for n, p in parts.items() if p.numel() > 1 and bool((p < -4).all())]
    want = ['box_head.fc_cls.bias', 'mask_head.logits.bias']
    assert [name for name in want if num_classes > 1] == same
    for name in want:
        bias = model.roi_head.get_parameter(name)
        torch.testing.assert_close(bias, torch.full_like(bias, -4.59512), rtol=0, atol=1e-4)
    assert all(
        torch.isfinite(v)
        for v in train_losses(model, [instances(SIZE, BOXES, num_classes)]).values()
    )


def test_more_targets_than_proposals_train(model):
    boxes = [(i, i, i + 20, i + 20) for i in range(20)]
    assert len(boxes) > model.num_proposals
    assert all(torch.isfinite(v) for v in train_losses(model, [instances(SIZE, boxes)]).values())


def test_bfloat16_autocast_keeps_boxes_and_losses_in_float32(model):
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = train_losses(model, [instances(SIZE, BOXES)])
        model.eval()
        with torch.no_grad():
            found = model.predict(torch.randn(1, 3, *SIZE), samples([SIZE]))[0].pred_instances
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert all(torch.isfinite(value) for value in losses.values())
    assert found.bboxes.dtype == torch.float32


def test_boxes_that_are_not_finite_are_dropped_with_a_warning(model):
    from isda_suite.methods.idip.options import InferenceOptions
    from isda_suite.methods.idip.postprocess import select

    boxes = torch.tensor([[0.0, 0, 20, 20], [float('nan'), 0, 9, 9], [30, 30, 50, 60]])
    with pytest.warns(UserWarning, match='1 of 3 boxes .* not finite'):
        found = select(torch.zeros(3, 1), boxes, SIZE, InferenceOptions())
    assert sorted(found.proposal_inds.tolist()) == [0, 2]


def test_the_ablation_without_dynamic_masks_and_ddpm_work():
    model = small_idip(**{
        'roi_head.mask_head.with_dynamic': False, 'test_cfg.sampling_type': 'DDPM',
        'diffusion.num_steps': 5, 'test_cfg.sampling_steps': 2, 'test_cfg.randomness': 'global',
    }).eval()  # fmt: skip
    feats = model.extract_feat(torch.randn(1, 3, *SIZE))
    seen = [step.time for step in model.sample(feats, [dict(img_shape=SIZE)])]
    assert seen == [4, 3, 2, 1, 0], 'DDPM takes the whole schedule'
    assert total(train_losses(model, [instances(SIZE, BOXES)])).isfinite()


def test_a_plain_forward_pass_serves_the_counter_of_operations(model):
    logits, boxes, masks = model.eval()(torch.randn(2, 3, *SIZE))
    assert logits.shape == (2, 12, 3) and boxes.shape == (2, 12, 4) and masks.shape == (24, 8, 8)


def test_polygon_targets_are_rasterised():
    import numpy as np
    from mmdet.structures.mask import PolygonMasks

    square = np.array([8.0, 8, 40, 8, 40, 40, 8, 40])
    gt = InstanceData(
        labels=torch.tensor([0]), bboxes=torch.tensor([[8.0, 8, 40, 40]]),
        masks=PolygonMasks([[square]], *SIZE),
    )  # fmt: skip
    masks = checked_targets(gt, dict(img_shape=SIZE), 'cpu').masks
    assert masks.shape == (1, *SIZE) and masks[0, 20, 20] == 1 and masks[0, 0, 0] == 0
