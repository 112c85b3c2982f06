"""Joining the ground truth of frames to instances of a clip."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr.targets import clip_targets

SIZE = (20, 40)  # of the frame; the batch is padded to 24 x 48


def frame(ids, labels, boxes, valid=None, size_hw=(24, 48), **fields):
    masks = np.zeros((len(ids), *size_hw), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        masks[i, y1:y2, x1:x2] = 1
    gt = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        instances_ids=torch.tensor(ids, dtype=torch.long),
        masks=BitmapMasks(masks, *size_hw),
        **fields,
    )
    if valid is not None:
        gt.valid = torch.tensor(valid, dtype=torch.bool)
    sample = DetDataSample(gt_instances=gt, metainfo=dict(img_shape=SIZE))
    sample.ignored_instances = InstanceData(bboxes=torch.ones(2, 4), labels=torch.ones(2))
    return sample


def clip(*frames):
    sample = TrackDataSample()
    sample.video_data_samples = list(frames)
    return sample


def test_rows_follow_ids_and_missing_ids_are_absent():
    found = clip_targets(
        clip(
            frame([7], [3], [(0, 0, 10, 10)]),
            frame([5, 7], [0, 3], [(20, 10, 40, 20), (4, 0, 8, 10)]),
            frame([], [], []),
        )
    )
    assert found.labels.tolist() == [[4, 4, 0], [0, 1, 0]]
    assert found.valid.tolist() == [[True, True, False], [False, True, False]]
    want = torch.zeros(2, 3, 4)
    want[0, 0] = torch.tensor([5 / 40, 5 / 20, 10 / 40, 10 / 20])
    want[0, 1] = torch.tensor([6 / 40, 5 / 20, 4 / 40, 10 / 20])
    want[1, 1] = torch.tensor([30 / 40, 15 / 20, 20 / 40, 10 / 20])
    torch.testing.assert_close(found.boxes, want)
    assert found.masks.shape == (2, 3, 24, 48)
    assert found.masks.sum((2, 3)).tolist() == [[100, 40, 0], [0, 200, 0]]
    assert len(found) == 2 and found.num_frames == 3


def test_a_row_marked_as_absent_keeps_the_box_of_the_transforms():
    """A flip moves the zero box to the right border, and the matching cost sees it there."""
    absent = frame([7], [3], [(40, 0, 40, 0)], valid=[False])
    found = clip_targets(clip(frame([7], [3], [(0, 0, 10, 10)], valid=[True]), absent))
    assert found.labels.tolist() == [[4, 0]]
    assert found.valid.tolist() == [[True, False]]
    assert found.boxes[0, 1].tolist() == [1, 0, 0, 0]
    assert found.masks[0, 1].sum() == 0


def test_a_clip_without_instances_keeps_frames_and_mask_size():
    found = clip_targets(clip(frame([], [], []), frame([], [], [])))
    assert found.labels.shape == found.valid.shape == (0, 2)
    assert found.boxes.shape == (0, 2, 4)
    assert found.masks.shape == (0, 2, 24, 48)


def test_frames_without_masks_give_boxes_alone():
    frames = [frame([7], [3], [(0, 0, 10, 10)]) for _ in range(2)]
    for one in frames:
        del one.gt_instances.masks
    assert clip_targets(clip(*frames)).masks is None


def test_masks_of_several_sizes_are_refused():
    with pytest.raises(ModelConfigError, match=r'one size in all frames.*pad_mask'):
        clip_targets(clip(frame([], [], []), frame([], [], [], size_hw=SIZE)))


def test_an_id_twice_in_a_frame_is_refused():
    twice = frame([7, 7], [1, 1], [(0, 0, 4, 4), (0, 0, 4, 4)])
    with pytest.raises(ModelConfigError, match=r'frame 1: expected every instance id once'):
        clip_targets(clip(frame([], [], []), twice))


def test_frames_without_ids_are_refused():
    nameless = frame([7], [3], [(0, 0, 10, 10)])
    del nameless.gt_instances.instances_ids
    with pytest.raises(ModelConfigError, match=r'expected the field instances_ids'):
        clip_targets(clip(nameless))
