"""A clip for training: the same instances and the same geometry in every frame."""

import numpy as np
import pytest
import torch
from mmdet.datasets import TrackImgSampler
from mmengine.registry import DefaultScope
from torch.utils.data import BatchSampler, DataLoader

from isda_suite.datasets.transforms import PhotoMetricDistortion, SampleClip
from isda_suite.datasets.transforms.clip_geometry import short_side_size
from isda_suite.engine.counted_randomness import count_samples
from isda_suite.registry import DATASETS
from tests.data.youtube_vis_fake.make import HEIGHT, WIDTH, config, make, mask, run_lengths

LOAD = [{'type': 'isda_suite.LoadImage'}, {'type': 'isda_suite.LoadClipAnnotations'}]


def pipeline(*steps, num_frames=4, sample=None, share=True, **pack):
    return [
        {'type': 'isda_suite.SampleClip', 'num_frames': num_frames, **(sample or {})},
        {
            'type': 'TransformBroadcaster',
            'share_random_params': share,
            'transforms': [*LOAD, *steps],
        },
        {'type': 'isda_suite.PackClipInputs', **pack},
    ]


@pytest.fixture
def build(tmp_path):
    """Give a function that makes the fake data set and builds it with some steps."""

    def build(*steps, change=None, **changes):
        make(tmp_path, change)
        with DefaultScope.overwrite_default_scope('mmdet'):
            return DATASETS.build(config(tmp_path, pipeline=pipeline(*steps, **changes)))

    return build


def field(data, name):
    return [frame.gt_instances[name] for frame in data.video_data_samples]


def test_every_frame_has_every_instance_in_the_order_of_ids(build):
    data = build()[0, 3]['data_samples']
    assert data.clip_frames == [0, 1, 2, 3] and data.video_length == 4 and data.video_id == 1
    assert [ids.tolist() for ids in field(data, 'instances_ids')] == [[11, 12]] * 4
    assert [labels.tolist() for labels in field(data, 'labels')] == [[1, 0]] * 4
    assert [valid.tolist() for valid in field(data, 'valid')] == [
        [True, True],
        [False, True],
        [True, True],
        [True, True],
    ]
    hidden = data.video_data_samples[1].gt_instances
    assert hidden.bboxes[0].tolist() == [0, 0, 0, 0]
    assert hidden.masks.masks[0].sum() == 0 and hidden.masks.masks[1].sum() == 144
    assert 'instances' not in data.video_data_samples[0].metainfo


@pytest.mark.parametrize('ids', [(0, 1), (0, 7), (40, 3)])
def test_category_ids_from_0_or_with_gaps_are_matched_by_name(build, ids):
    def change(content):
        renamed = dict(zip((5, 9), ids, strict=True))
        for one in content['categories']:
            one['id'] = renamed[one['id']]
        for one in content['annotations']:
            one['category_id'] = renamed[one['category_id']]

    data = build(change=change)[0, 3]['data_samples']
    assert [labels.tolist() for labels in field(data, 'labels')] == [[1, 0]] * 4


def test_a_short_video_is_repeated_with_its_targets(build):
    data = build(num_frames=7)[1, 0]['data_samples']
    assert data.clip_frames == [0, 1, 2, 0, 1, 2, 0] and data.num_valid == 3
    assert [valid.tolist() for valid in field(data, 'valid')] == [[True]] * 7


def test_instances_outside_of_the_clip_are_left_out_unless_asked_for(build):
    def change(content):
        for key in ('segmentations', 'bboxes', 'areas'):
            content['annotations'][1][key][1:] = [None] * 3

    ids = field(build(change=change, num_frames=2)[0, 3]['data_samples'], 'instances_ids')
    assert [one.tolist() for one in ids] == [[11], [11]]
    dataset = build(change=change, num_frames=2, sample={'keep_absent': True})
    data = dataset[0, 3]['data_samples']
    assert [one.tolist() for one in field(data, 'instances_ids')] == [[11, 12]] * 2
    assert [one.tolist() for one in field(data, 'valid')] == [[True, False]] * 2


@pytest.mark.parametrize('what', ['crowd', 'box', 'null', 'empty'])
def test_a_frame_without_a_mask_of_the_object_is_no_valid_target(build, what):
    def change(content):
        track = content['annotations'][1]
        track['segmentations'][2] = None if what != 'empty' else run_lengths(mask(0, 0, 0, 0))
        if what == 'null':
            track['bboxes'][2] = track['areas'][2] = None
        if what == 'crowd':
            content['annotations'].append({**track, 'id': 99, 'iscrowd': 1})

    data = build(change=change)[0, 3]['data_samples']
    assert [one.tolist() for one in field(data, 'instances_ids')] == [[11, 12]] * 4
    assert [one[1].item() for one in field(data, 'valid')] == [True, True, False, True]
    for frame in data.video_data_samples:
        assert len(frame.ignored_instances) == 0
        filled = np.asarray(frame.gt_instances.masks.areas) > 0
        assert filled.tolist() == frame.gt_instances.valid.tolist()


def test_the_end_is_drawn_anew_or_once_for_all_workers_and_epochs(build):
    drawing = SampleClip(4)
    record = build().get_data_info(0)
    np.random.seed(0)
    ends = [drawing(dict(record))['clip_info'][0]['clip_frames'][-1] for _ in range(40)]
    assert set(ends) == {0, 1, 2, 3}
    once = [SampleClip(4, mode='once', seed=seed) for seed in range(30)]
    first = [one(dict(record))['clip_info'][0]['clip_frames'] for one in once]
    assert first == [one(dict(record))['clip_info'][0]['clip_frames'] for one in once]
    assert {frames[-1] for frames in first} == {0, 1, 2, 3}


@pytest.mark.parametrize('wrong', [{'num_frames': 0}, {'num_frames': 3, 'mode': 'never'}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match='SampleClip: '):
        SampleClip(**wrong)


FLIP = {'type': 'RandomFlip', 'prob': 0.5}
RESIZE = {
    'type': 'RandomChoiceResize',
    'scales': [(40, 60), 50, (60, 70)],
    'resize_type': 'isda_suite.ResizeShortSide',
}
CROP = {'type': 'isda_suite.RandomCropKeepingAll', 'crop_size': (20, 36)}


def test_all_frames_get_the_same_geometry_and_clips_differ(build):
    dataset = build(FLIP, RESIZE, CROP, RESIZE)
    np.random.seed(1)
    shapes, flips = set(), set()
    for _ in range(20):
        data = dataset[0, 3]['data_samples']
        # The standing object has the same box in all frames.
        boxes = torch.stack([one[1] for one in field(data, 'bboxes')])
        assert (boxes == boxes[0]).all()
        masks = np.stack([one.masks[1] for one in field(data, 'masks')])
        assert (masks == masks[0]).all()
        assert masks.shape[1:] == data.img_shape
        shapes.add(data.img_shape)
        flips.add(data.video_data_samples[0].flip)
    assert len(shapes) > 5 and flips == {True, False}


def test_absent_boxes_move_with_the_picture_as_in_the_original(build):
    data = build({'type': 'RandomFlip', 'prob': 1.0})[0, 3]['data_samples']
    assert data.video_data_samples[1].gt_instances.bboxes[0].tolist() == [WIDTH, 0, WIDTH, 0]


@pytest.mark.parametrize('recompute', [True, False])
def test_instances_that_a_crop_empties_stay_and_are_valid_only_for_parity(build, recompute):
    crop = {**CROP, 'crop_size': (8, 8)}
    dataset = build(crop, recompute_valid=recompute)
    np.random.seed(0)
    emptied = 0
    for _ in range(10):
        for frame in dataset[0, 3]['data_samples'].video_data_samples:
            gt = frame.gt_instances
            assert gt.instances_ids.tolist() == [11, 12]
            empty = torch.as_tensor(np.asarray(gt.masks.areas) == 0)
            emptied += int((empty & gt.valid).sum())
    assert (emptied == 0) is recompute


def test_a_clip_without_a_target_can_be_given_back(build):
    crop = {**CROP, 'crop_size': (1, 1)}
    np.random.seed(0)
    kept = [build(crop)[0, 3]['data_samples'] for _ in range(3)]
    assert any(not torch.stack(field(one, 'valid')).any() for one in kept)
    dataset = build(crop, reject_empty=True)
    for _ in range(3):
        assert torch.stack(field(dataset[0, 3]['data_samples'], 'valid')).any()


@pytest.mark.parametrize('share', [True, False])
def test_colours_change_frame_by_frame_or_for_the_whole_clip(share):
    from mmcv.transforms import TransformBroadcaster

    step = TransformBroadcaster(
        [PhotoMetricDistortion()],
        mapping={'img': 'img'},
        auto_remap=True,
        share_random_params=share,
    )
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    np.random.seed(3)
    first, *others = step({'img': [image.copy() for _ in range(4)]})['img']
    assert first.dtype == np.uint8
    assert all((one == first).all() for one in others) is share


def test_bright_pixels_are_cut_off_and_do_not_wrap():
    step = PhotoMetricDistortion()
    step._random_flags = lambda: (1, 1, 1, 0, 0, 0, 32.0, 1.5, 1.0, 0.0, [0, 1, 2])
    image = np.full((2, 2, 3), 250, np.uint8)
    assert (step({'img': image})['img'] == 255).all()


@pytest.mark.parametrize(
    ('size', 'short', 'limit', 'expected'),
    [
        ((90, 160), 300, 540, (300, 533)),
        ((90, 160), 64, None, (64, 113)),
        ((160, 90), 480, 800, (800, 450)),
        ((300, 301), 300, None, (300, 301)),
        ((50, 50), 7, 7, (7, 7)),
        ((100, 1000), 300, 540, (54, 540)),
    ],
)
def test_sizes_are_rounded_as_in_detr(size, short, limit, expected):
    assert short_side_size(size, short, limit) == expected


def clips_seen(dataset, workers, skipped=0):
    """Return what two epochs of mmdet's frame sampler show, from some batch on."""
    loader = DataLoader(
        dataset,
        batch_sampler=BatchSampler(TrackImgSampler(dataset, seed=0), 1, False),
        num_workers=workers,
        collate_fn=lambda batch: batch[0],
    )
    counted = count_samples(loader, seed=3, rank=0, world_size=1)
    epoch, counted.batch_sampler.skipped = divmod(skipped, len(counted))
    counted.batch_sampler.first = skipped
    seen = []
    for number in range(epoch, 2):
        counted.batch_sampler.sampler.set_epoch(number)
        for one in counted:
            data = one['data_samples']
            seen.append((data.video_id, data.clip_frames[-1], int(one['inputs'].sum())))
    return seen


def test_a_sampler_of_frames_gives_a_clip_for_every_frame_with_counted_randomness(build):
    dataset = build(FLIP, CROP)
    alone = clips_seen(dataset, 0)
    frames = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2)]
    assert sorted(one[:2] for one in alone[:7]) == sorted(one[:2] for one in alone[7:]) == frames
    assert {one[2] for one in alone[:7]}.isdisjoint(one[2] for one in alone[7:])
    assert alone == clips_seen(dataset, 2), 'workers change nothing'
    for skipped in (4, 9):
        assert clips_seen(dataset, 1, skipped) == alone[skipped:], 'a resumed run goes on'
