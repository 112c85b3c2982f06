"""A detector of red and green things, whose masks are known in advance."""

import cv2
import numpy as np
import torch

from tests.engine.toy import ToySegmenter, write_coco, write_config

#: Class, BGR colour, and box (left, top, right, bottom) of what stands in the picture.
THINGS = (('red', (30, 30, 230), (20, 30, 120, 90)), ('green', (30, 230, 30), (200, 60, 280, 200)))
SIZE_HW = (240, 320)
#: Scores: green things are found less surely.
SCORES = {'red': 0.975, 'green': 0.731}


def write_detector(folder):
    """Write its configuration and weights; return both."""
    config = write_config(folder, write_coco(folder / 'data'))
    model = ToySegmenter(2)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    # Of BGR pixels, from which 90 is taken and which are divided by 60.
    for label, (plus, minus) in enumerate([(2, 1), (1, 2)]):
        state['backbone.weight'][label, plus, 1, 1] = 1.0
        state['backbone.weight'][label, minus, 1, 1] = -1.0
    state['bbox_head.conv_cls.weight'][0, 0] = 2.0
    state['bbox_head.conv_cls.weight'][1, 1] = 1.2
    state['bbox_head.conv_cls.bias'][:] = -3.0
    weights = folder / 'colours.pth'
    torch.save({'state_dict': state, 'meta': {}}, weights)
    return config, weights


def write_scene(file):
    """Write the picture with the things in it."""
    image = np.full((*SIZE_HW, 3), 90, np.uint8)
    for _, colour, (left, top, right, bottom) in THINGS:
        image[top:bottom, left:right] = colour
    assert cv2.imwrite(str(file), image)
    return file


def area_of(name):
    """Return the area of a thing in pixels."""
    [(left, top, right, bottom)] = [box for one, _, box in THINGS if one == name]
    return (right - left) * (bottom - top)
