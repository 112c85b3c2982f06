"""A data set of images with rectangles, as small detectors of every family take them."""

import numpy as np
import torch
from mmengine.structures import InstanceData

from tests.methods.iuq.build import sample_of


class DrawnRectangles:
    """Four images of unequal sizes; the last one has no instance.

    Bright rectangles on noise; ``pipeline`` gives what ``PackDetInputs`` does.
    """

    sizes_hw = ((96, 128), (128, 96), (100, 120), (64, 64))
    boxes = (
        [[10, 12, 50, 60], [70, 30, 120, 80]],
        [[5, 5, 60, 60], [20, 80, 80, 120], [64, 8, 90, 40]],
        [[30, 30, 90, 90]],
        [],
    )

    def __init__(self):
        self.metainfo = dict(classes=('red', 'green', 'blue'))

    def __len__(self):
        return len(self.sizes_hw)

    def full_init(self):
        """There is nothing to read."""

    def get_data_info(self, index):
        return index

    def pipeline(self, index):
        state = np.random.RandomState(index)
        height, width = self.sizes_hw[index]
        image = state.randint(0, 60, (3, height, width)).astype(np.uint8)
        labels = [i % 3 for i in range(len(self.boxes[index]))]
        for (x1, y1, x2, y2), label in zip(self.boxes[index], labels, strict=True):
            image[label, y1:y2, x1:x2] = 220
        sample = sample_of(self.boxes[index], labels, (height, width), index)
        sample.set_metainfo(dict(img_path=f'folder/{index}.jpg'))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
