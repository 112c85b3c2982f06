"""Drawing instances: colours, thresholds, empty cases."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from isda_suite.registry import VISUALIZERS
from isda_suite.visualization import InstanceVisualizer, draw_instances, draw_side_by_side
from isda_suite.visualization.colours import class_colours
from isda_suite.visualization.instances import instances_of

IMAGE = np.full((400, 420, 3), 90, dtype=np.uint8)


def _instances(labels, scores=None):
    masks = np.zeros((len(labels), 400, 420), dtype=bool)
    for index, mask in enumerate(masks):
        mask[40 + 100 * index : 120 + 100 * index, 150:350] = True
    found = InstanceData(labels=torch.tensor(labels, dtype=torch.long), masks=masks)
    if scores is not None:
        found.scores = torch.tensor(scores)
    return found


def _mixed(label):
    """Return the colour of a class over the grey image."""
    colour = np.array(class_colours(label + 1)[label])
    return 0.5 * colour + 0.5 * 90


def test_masks_have_the_colour_of_their_class():
    picture = draw_instances(IMAGE, _instances([2, 0, 2]))
    for row, label in ((50, 2), (150, 0), (250, 2)):
        assert np.abs(picture[row, 160] - _mixed(label)).max() <= 2
    assert np.abs(picture[5, 5].astype(int) - 90).max() <= 1


def test_drawing_leaves_the_random_stream_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    draw_instances(IMAGE, _instances([0]))
    assert np.random.random() == expected


def test_predictions_below_the_threshold_are_not_drawn():
    side = draw_side_by_side(
        IMAGE, _instances([0]), _instances([0, 1], [0.9, 0.1]), ['disk', 'box'], score_thr=0.3
    )
    right = side[24:, 426:]
    assert side.shape == (400 + 2 * 24, 846, 3)
    assert np.abs(right[50, 160] - _mixed(0)).max() <= 2
    assert np.abs(right[150, 160].astype(int) - 90).max() <= 1
    assert (side[424:] == class_colours(1)[0]).all(axis=2).any()
    assert not (side[424:] == class_colours(2)[1]).all(axis=2).any()


@pytest.mark.parametrize(
    ('gt', 'pred'),
    [
        (None, None),
        (_instances([]), None),
        (None, _instances([], [])),
        (_instances([]), _instances([0], [0.1])),
        (InstanceData(labels=torch.tensor([0]), masks=np.zeros((1, 400, 420), bool)), None),
    ],
)
def test_nothing_to_draw_is_a_picture_too(gt, pred):
    side = draw_side_by_side(IMAGE, gt, pred, ['disk'])
    assert np.abs(side[24:424, :420].astype(int) - 90).max() <= 1


def test_annotations_of_every_kind_become_masks():
    square = [10.0, 8.0, 30.0, 8.0, 30.0, 28.0, 10.0, 28.0]
    box = {'bbox': [10, 8, 30, 28], 'bbox_label': 1}
    info = {
        'height': 48,
        'width': 64,
        'instances': [
            {**box, 'ignore_flag': 0, 'mask': [square]},
            {**box, 'ignore_flag': 0, 'mask': {'size': [48, 64], 'counts': [0, 96, 2976]}},
            {**box, 'ignore_flag': 1, 'mask': [square]},
        ],
    }
    found = instances_of(info)
    assert found.masks.sum(axis=(1, 2)).tolist() == [400, 96]
    assert found.labels.tolist() == [1, 1]
    assert len(instances_of({**info, 'instances': []})) == 0


def test_the_visualizer_serves_mmdets_hooks(tmp_path):
    visualizer = VISUALIZERS.build({'type': 'isda_suite.InstanceVisualizer', 'name': 'test_vis'})
    assert isinstance(visualizer, InstanceVisualizer)
    visualizer.dataset_meta = {'classes': ('disk', 'box')}
    sample = DetDataSample(gt_instances=_instances([0, 1]), pred_instances=_instances([1], [0.8]))
    visualizer.add_datasample('x', IMAGE, sample, out_file=str(tmp_path / 'x.png'))
    assert (tmp_path / 'x.png').stat().st_size > 1000
    boxes = InstanceData(labels=torch.tensor([1]), bboxes=torch.tensor([[50.0, 50, 300, 300]]))
    assert (visualizer._draw_instances(IMAGE, boxes, ('disk', 'box'), None) != 90).any()
