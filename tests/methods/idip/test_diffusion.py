"""Random numbers of images, and the parts of the diffusion that the goldens do not see."""

import numpy as np
import pytest
import torch

from isda_suite.methods.idip.diffusion import DiffusionSchedule, add_noise, sample_boxes
from isda_suite.methods.idip.options import InferenceOptions
from isda_suite.methods.idip.randomness import ImageNoise, NoiseRecorder, RecordedNoise, image_key
from tests.methods.idip.build import instances, samples, small_idip

SIZE = (64, 96)
SCHEDULE = DiffusionSchedule(20)


def test_a_stream_follows_from_its_address_alone():
    torch.manual_seed(0)
    first = [ImageNoise(3, 5).normal(4), ImageNoise(3, 5).time(1000), ImageNoise(3, 5).choice(9, 4)]
    torch.manual_seed(1)
    again = [ImageNoise(3, 5).normal(4), ImageNoise(3, 5).time(1000), ImageNoise(3, 5).choice(9, 4)]
    assert torch.equal(first[0], again[0]) and first[1] == again[1]
    assert torch.equal(first[2], again[2]) and int(first[2].sum()) == 4
    assert not torch.equal(first[0], ImageNoise(3, 6).normal(4))
    assert not torch.equal(first[0], ImageNoise(4, 5).normal(4))
    before = torch.get_rng_state()
    ImageNoise(3, 5).normal(4)
    assert torch.equal(before, torch.get_rng_state()), 'the global generator is left alone'
    ImageNoise().normal(4)
    assert not torch.equal(before, torch.get_rng_state()), 'without an address it is the global one'


def test_ids_of_any_kind_become_integers():
    assert image_key(dict(img_id=7)) == image_key(dict(img_id='7', img_path='x')) == 7
    assert image_key(dict(img_id='a')) != image_key(dict(img_id='b'))
    assert image_key(dict(img_path='a')) == image_key(dict(img_id='a'))
    assert image_key({}, 4) == 4


def test_recorded_noise_replays_a_training_step_and_an_inference():
    torch.manual_seed(0)
    model = small_idip()
    images = torch.randn(2, 3, *SIZE)
    gts = [instances(SIZE, [(4, 4, 40, 40)] * n) for n in (2, 15)]
    recorders = [NoiseRecorder(ImageNoise(9, i)) for i in range(2)]
    model.train()
    first = model.loss(images, samples([SIZE] * 2, gts), recorders)
    again = model.loss(images, samples([SIZE] * 2, gts), [r.replay() for r in recorders])
    assert all(torch.equal(first[name], again[name]) for name in first)
    model.eval()
    recorders = [NoiseRecorder(noise) for noise in model.image_noises([dict(img_id=1)] * 2)]
    with torch.no_grad():
        one = model.predict(images, samples([SIZE] * 2), noises=recorders)
        scores = [sample.pred_instances.scores for sample in one]
        other = model.predict(images, samples([SIZE] * 2), noises=[r.replay() for r in recorders])
    assert all(torch.equal(a, b.pred_instances.scores) for a, b in zip(scores, other, strict=True))


@pytest.mark.parametrize(
    ('noise', 'message'),
    [
        (RecordedNoise(), 'used up'),
        (RecordedNoise([np.zeros((3, 4))]), r'shape \(12, 4\), got \(3, 4\)'),
    ],
)
def test_noise_of_another_image_is_named(noise, message):
    with pytest.raises(ValueError, match=message):
        noise.normal(12)
    with pytest.raises(ValueError, match='expected 2 of 3, got 1 of 2'):
        RecordedNoise(choices=[[True, False]]).choice(3, 2)


def test_training_noise_follows_from_the_step_and_the_image(monkeypatch):
    """Not from the place in the batch, nor from the other images."""
    model, seen = small_idip().train(), []
    whole = model.roi_head.forward
    monkeypatch.setattr(
        model.roi_head, 'forward', lambda f, boxes, t: seen.append((boxes, t)) or whole(f, boxes, t)
    )
    gts = [instances(SIZE, [(4, 4, 40, 40)])] * 2
    for ids in ([1, 2], [2, 1]):
        torch.manual_seed(4)
        model.loss(torch.zeros(2, 3, *SIZE), samples([SIZE] * 2, gts, ids))
    assert torch.equal(seen[0][0], seen[1][0].flip(0)) and torch.equal(
        seen[0][1], seen[1][1].flip(0)
    )
    torch.manual_seed(5)
    model.loss(torch.zeros(2, 3, *SIZE), samples([SIZE] * 2, gts, [1, 2]))
    assert not torch.equal(seen[0][0], seen[2][0])


@pytest.mark.parametrize('count', [0, 5, 12, 30])
def test_noisy_boxes_lie_in_the_image(count):
    boxes = torch.tensor([[8.0, 8, 30, 50]]).repeat(count, 1)
    noisy, time = add_noise(boxes, SIZE, 12, ImageNoise(1, count), SCHEDULE)
    assert noisy.shape == (12, 4) and noisy.dtype == torch.float32 and 0 <= time < 20
    assert (noisy >= 0).all() and (noisy[:, 2] <= 96).all() and (noisy[:, 3] <= 64).all()
    assert (noisy[:, 2:] >= noisy[:, :2]).all()


def test_at_time_zero_targets_are_hardly_moved():
    boxes = torch.tensor([[8.0, 8, 30, 50], [40, 4, 90, 60]])
    schedule = DiffusionSchedule(1000)
    noise = RecordedNoise([ImageNoise(0).normal(4), ImageNoise(1).normal(6)], [0])
    noisy, _ = add_noise(boxes, SIZE, 6, noise, schedule)
    torch.testing.assert_close(noisy[:2], boxes, rtol=0, atol=1.5)


@pytest.mark.parametrize('scale', [1.0, 2.0])
def test_a_head_that_knows_the_answer_is_approached_on_a_straight_line(scale):
    """Without noise on the way x_t mixes the answer with one direction that stays."""
    schedule = DiffusionSchedule(1000, scale)
    answer = torch.tensor([[8.0, 8, 30, 50], [40, 4, 90, 60]])[None]
    options = InferenceOptions(sampling_steps=4, deterministic=True)

    def head(boxes, times):
        return torch.ones(1, 2, 3), answer, boxes

    steps = list(sample_boxes(head, [SIZE], [ImageNoise(0)], 2, schedule, options))
    assert [step.time for step in steps] == [999, 749, 499, 249]
    assert all(step.kept.all() for step in steps)
    shares = torch.tensor(
        [[19 / 96, 29 / 64, 22 / 96, 42 / 64], [65 / 96, 32 / 64, 50 / 96, 56 / 64]]
    )
    clean = (2 * shares - 1) * scale
    kept = torch.from_numpy(schedule.alphas_cumprod[[step.time for step in steps]]).float()
    direction = (steps[0].signal[0] - kept[0].sqrt() * clean) / (1 - kept[0]).sqrt()
    for step, share in zip(steps, kept, strict=True):
        want = share.sqrt() * clean + (1 - share).sqrt() * direction
        torch.testing.assert_close(step.signal[0], want, rtol=1e-4, atol=1e-4)


def test_renewal_replaces_weak_proposals_at_the_end():
    def head(boxes, times):
        logits = torch.full((1, 6, 2), -3.0)
        logits[:, 1:3] = 3.0
        return logits, boxes, boxes

    recorder = NoiseRecorder(ImageNoise(0))
    options = InferenceOptions(sampling_steps=2)
    steps = list(sample_boxes(head, [SIZE], [recorder], 6, SCHEDULE, options))
    assert steps[0].kept.tolist() == [[False, True, True, False, False, False]]
    assert [len(one) for one in recorder.normals] == [6, 2, 4]
    assert torch.equal(steps[1].signal[0, 2:], recorder.normals[2])
