"""Samples of a data set drawn as the model gets them: clips as sheets of their frames."""

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from isda_suite.visualization import browsing, draw_samples


class _Clips:
    """One clip of three frames; the object with id 7 is absent from the second one."""

    metainfo = {'classes': ('cat', 'dog')}  # noqa: RUF012

    def __init__(self, annotated=True):
        self.annotated = annotated

    def __len__(self):
        return 1

    def __getitem__(self, index):
        data = TrackDataSample()
        frames = []
        for number in range(3):
            frame = DetDataSample(metainfo=dict(video_id=4, frame_id=number + 2))
            frame.gt_instances = self._instances(number) if self.annotated else InstanceData()
            frames.append(frame)
        data.video_data_samples = frames
        return {'inputs': torch.zeros(3, 3, 40, 50, dtype=torch.uint8), 'data_samples': data}

    def _instances(self, number):
        masks = np.zeros((2, 40, 50), np.uint8)
        masks[0, 5:15, 5:15] = number != 1
        masks[1, 20:30, 20:40] = 1
        return InstanceData(
            labels=torch.tensor([1, 1]),
            bboxes=torch.zeros(2, 4),
            masks=BitmapMasks(masks, 40, 50),
            instances_ids=torch.tensor([7, 9]),
            valid=torch.tensor([number != 1, True]),
        )


def test_a_clip_becomes_a_sheet_of_frames_with_the_objects_by_id(tmp_path, monkeypatch):
    drawn = []

    def draw(image, instances, classes, caption):
        drawn.append((instances.labels, list(classes), caption))
        return np.zeros((40, 50, 3), np.uint8)

    monkeypatch.setattr(browsing, 'draw_instances', draw)
    written = draw_samples(_Clips(), tmp_path, progress=False)
    assert [path.name for path in written] == ['0000_video_4_from_2.jpg', 'contact_sheet.jpg']
    assert [one[0].tolist() for one in drawn] == [[0, 1], [1], [0, 1]]
    assert all(one[1] == ['7 dog', '9 dog'] for one in drawn)
    assert [one[2] for one in drawn] == [
        'frame 2: 50 x 40, 2 of 2 objects',
        'frame 3: 50 x 40, 1 of 2 objects',
        'frame 4: 50 x 40, 2 of 2 objects',
    ]


def test_an_object_keeps_its_colour_over_the_frames():
    sample = _Clips()[0]
    images = np.zeros((3, 40, 50, 3), np.uint8)
    pictures = browsing._draw_clip(
        images, sample['data_samples'].video_data_samples, _Clips.metainfo
    )
    bar = pictures[0].shape[0] - 400
    place = (bar + 10 * 28, 10 * 22)
    assert pictures[0][place].any()
    assert (pictures[0][place] == pictures[1][place]).all()
    assert (pictures[0][bar + 120, 60] != pictures[1][bar + 120, 60]).any(), 'absent there'


def test_a_clip_without_annotations_is_drawn_too(tmp_path):
    assert len(draw_samples(_Clips(annotated=False), tmp_path, progress=False)) == 2
