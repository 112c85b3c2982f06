"""Behaviour of the model at the edges; numbers against the original are in tests/golden."""

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from isda_suite.layers.errors import ModelConfigError
from tests.methods.defvistr.build import clip_samples, small_defvistr

VARIANTS = ('instance_token', 'frame_query', 'vistr')
SIZE = (64, 96)


@pytest.fixture(scope='module', params=VARIANTS)
def model(request):
    return small_defvistr(request.param)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def train_samples(num_instances, img_shapes=(SIZE,)):
    """Make clips in which instances move to the right and the second is absent at first."""
    samples = clip_samples(img_shapes, batch_input_shape=SIZE)
    for sample in samples:
        for t, frame in enumerate(sample.video_data_samples):
            here = [i for i in range(num_instances) if t > 0 or i != 1]
            masks = np.zeros((len(here), *SIZE), np.uint8)
            for row, i in enumerate(here):
                masks[row, 5 + 20 * i : 25 + 20 * i, 5 + 10 * t : 30 + 10 * t] = 1
            boxes = [(5 + 10 * t, 5 + 20 * i, 30 + 10 * t, 25 + 20 * i) for i in here]
            frame.gt_instances = InstanceData(
                bboxes=torch.tensor(boxes).reshape(-1, 4).float(),
                labels=torch.tensor(here).long(),
                instances_ids=torch.tensor(here).long(),
                masks=BitmapMasks(masks, *SIZE),
            )
    return samples


def test_outputs_are_instance_by_frame(model):
    with torch.no_grad():
        logits, boxes, masks = model.eval()(torch.randn(2, 3, 3, *SIZE), mode='tensor')
    assert logits.shape == (2, 2, 2, 3, 6) and boxes.shape == (2, 2, 2, 3, 4)
    assert masks.shape == (2, 2, 3, 16, 24)
    assert boxes.min() > 0 and boxes.max() < 1


def test_clips_of_a_batch_do_not_see_each_other(model):
    clips = torch.randn(2, 3, 3, *SIZE)
    samples = clip_samples([(64, 96), (50, 70)])
    with torch.no_grad():
        both = model.eval()(clips, samples, mode='tensor')
        for i in range(2):
            one = model(clips[i : i + 1], samples[i : i + 1], mode='tensor')
            for joint, single in zip(both, one, strict=True):
                part = joint[i : i + 1] if joint is both[2] else joint[:, i : i + 1]
                torch.testing.assert_close(part, single, rtol=1e-4, atol=1e-4)


def test_what_is_in_the_padding_of_tokens_does_not_matter(model):
    """The map at stride 32 has 2 x 3 cells, of which the last column is padding."""
    feats = [torch.randn(3, 16 * 2**i, *(n // 2**i for n in (16, 24))) for i in range(4)]
    padding = torch.zeros(1, 3, 2, 3, dtype=torch.bool)
    padding[..., 2] = True
    other = [*feats[:3], feats[3].clone()]
    other[3][..., 2] += 5
    with torch.no_grad():
        first, second = (model.eval().forward_transformer(f, padding) for f in (feats, other))
    torch.testing.assert_close(first[0], second[0])
    torch.testing.assert_close(first[1][..., :2], second[1][..., :2])


def test_padding_equals_a_smaller_map(model):
    """Positions, valid ratios and masks make the padded clip that without the padding."""
    whole = torch.randn(3, 128, 2, 3)
    padded = torch.nn.functional.pad(whole, (0, 2, 0, 1))
    padding = torch.ones(1, 3, 3, 5, dtype=torch.bool)
    padding[:, :, :2, :3] = False
    with torch.no_grad():
        want, memory = model.eval().forward_transformer(
            [whole], padding[:, :, :2, :3], padded=False
        )
        got, got_memory = model.forward_transformer([padded], padding)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_memory[..., :2, :3], memory, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('num_instances', [2, 0])
def test_gradient_reaches_every_parameter_with_and_without_instances(model, num_instances):
    """A rank without instances must take part in the gradient exchange."""
    model.train().zero_grad()
    losses = model.loss(torch.randn(1, 3, 3, *SIZE), train_samples(num_instances))
    assert all(torch.isfinite(value) for value in losses.values())
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_a_padded_batch_trains(model):
    losses = model.train().loss(torch.randn(2, 3, 3, *SIZE), train_samples(2, [SIZE, (60, 70)]))
    assert {'loss_cls', 'loss_bbox', 'loss_giou', 'loss_mask', 'loss_dice', 'd0.loss_cls'} <= set(
        losses
    )
    assert all(torch.isfinite(value) for value in losses.values())


def test_recomputing_layers_changes_no_gradient(model):
    """Dropout included: the random state is brought back."""
    model.train()
    grads = []
    clips = torch.randn(1, 3, 3, *SIZE)
    for recompute in (True, False):
        model.encoder.with_cp = model.decoder.with_cp = recompute
        torch.manual_seed(3)
        model.zero_grad()
        logits, boxes, _ = model(clips, mode='tensor')
        (logits.sum() + boxes.sum()).backward()
        grads.append([p.grad for p in model.encoder.parameters()])
    for first, second in zip(*grads, strict=True):
        torch.testing.assert_close(first, second)


def test_half_precision_keeps_positions_and_boxes_in_float32(model):
    seen = []
    hooks = [
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs['reference_points'].dtype), with_kwargs=True
        )
        for layer in model.encoder.layers
        if model.variant.deformable
    ]
    clips = torch.randn(1, 3, 3, *SIZE)
    with torch.no_grad():
        full = model.eval()(clips, mode='tensor')
        with torch.autocast('cpu', dtype=torch.bfloat16):
            half = model(clips, mode='tensor')
    for hook in hooks:
        hook.remove()
    assert set(seen) <= {torch.float32} and len(seen) == 2 * len(hooks)
    assert [x.dtype for x in half] == [torch.float32] * 3
    torch.testing.assert_close(half[1], full[1], rtol=0, atol=0.05)


def test_loss_falls_on_one_clip():
    torch.manual_seed(1)
    model = small_defvistr(transformer=dict(dropout=0.0)).train()
    clips = 0.2 * torch.randn(1, 3, 3, *SIZE)
    samples = train_samples(2)
    for t in range(3):
        clips[0, t, 0, 5:25, 5 + 10 * t : 30 + 10 * t] += 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(25):
        losses = model.loss(clips, samples)
        total = sum(value for name, value in losses.items() if 'loss' in name)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        totals.append(float(total))
    assert totals[-1] < 0.7 * totals[0]


def test_a_model_without_masks_trains_and_gives_boxes():
    model = small_defvistr(head=dict(mask_branch=None))
    clips = torch.randn(1, 3, 3, *SIZE)
    samples = train_samples(2)
    losses = model.train().loss(clips, samples)
    assert 'loss_bbox' in losses and 'loss_mask' not in losses
    assert not any('mask_branch' in name for name in model.state_dict())
    facts = dict(video_id=7, video_length=3, ori_shape=(128, 192), clip_frames=[0, 1, 2])
    samples[0].set_metainfo({**facts, 'num_valid': 3, 'is_last_clip': True})
    with torch.no_grad():
        tracks = model.eval().predict(clips, samples)[0].pred_tracks
        boxes = model(clips, mode='tensor')[1][-1, 0]
    centre = (tracks.bboxes[..., 0] + tracks.bboxes[..., 2]) / 2
    torch.testing.assert_close(centre, boxes[..., 0] * 192)
    assert tracks.labels.min() >= 0 and len(tracks) == 2
    samples[0].set_metainfo({'video_length': 4})
    with pytest.raises(ModelConfigError, match='linked by their masks'):
        model.predict(clips, samples)


def test_the_last_clip_of_a_video_brings_the_tracks(model):
    """Clips of 3 frames, 1 in common: 0-2, 2-4, 4-6."""
    model.eval()
    facts = dict(video_id=5, video_length=7, ori_shape=(40, 60))
    with torch.no_grad():
        for n, start in enumerate((0, 2, 4)):
            sample = clip_samples([SIZE])[0]
            frames = list(range(start, start + 3))
            sample.set_metainfo({**facts, 'clip_frames': frames, 'num_valid': 3})
            sample.set_metainfo({'is_last_clip': n == 2})
            (found,) = model.predict(torch.randn(1, 3, 3, *SIZE), [sample])
            assert found.video_done == (n == 2) and ('pred_tracks' in found) == (n == 2)
    assert all(len(masks) == 7 for masks in found.pred_tracks.masks)
    with pytest.raises(ModelConfigError, match='must come in order'):
        model.predict(torch.randn(1, 3, 3, *SIZE), [sample])


def test_clips_of_another_length_say_what_to_do(model):
    with pytest.raises(
        ModelConfigError, match=r'\(B, 3, 3, H, W\).*num_frames.*convert_checkpoint'
    ):
        model(torch.zeros(1, 4, 3, *SIZE), mode='tensor')
    with pytest.raises(ModelConfigError, match=r'1 clips of 3 frames.*\[2\]'):
        model(torch.zeros(1, 3, 3, *SIZE), clip_samples([SIZE], num_frames=2), mode='tensor')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(variant='paper'), r"variant: expected one of .*'paper'"),
        (dict(query_layout='x'), 'query_layout: expected one of'),
        (dict(variant='vistr', query_layout='interleaved'), 'does not have; leave it out'),
        (dict(num_queries=36), 'num_frames = 3 queries, got 36'),
        (dict(variant='frame_query', num_queries=3), r'num_frames \* num_instances = 6'),
        (dict(num_frames=0), 'num_frames: expected at least 1'),
        (dict(transformer=dict(heads=3)), 'transformer: unknown heads; known: in_channels'),
        (dict(transformer=dict(embed_dims=100)), 'embed_dims: expected a multiple of'),
        (dict(transformer=dict(num_heads=7)), 'multiple of num_heads=7'),
        (dict(head=dict(loss=dict(focal=2))), r'head\.loss: unknown focal'),
        (dict(head=dict(num_classes=0)), 'num_classes: expected at least 1'),
        (dict(test_cfg=dict(thr=0.5)), 'test_cfg: unknown thr; known: .*mask_thr.*overlap'),
    ],
)
def test_wrong_options_say_what_is_expected(changes, message):
    with pytest.raises(ModelConfigError, match=message):
        small_defvistr(**changes)


def test_training_without_an_assigner_names_it():
    model = small_defvistr(train_cfg=None)
    with pytest.raises(ModelConfigError, match=r'train_cfg\.assigner: missing'):
        model.loss(torch.zeros(1, 3, 3, *SIZE), train_samples(1))
