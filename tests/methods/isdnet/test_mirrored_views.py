"""`tools/test.py --tta` on the sample: what the mirrored view is compared with."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import MODELS
from pycocotools import mask as coco_mask
from torch import nn

from isda_suite.apis.model import build_model
from isda_suite.datasets.sample import write_sample_semantic
from isda_suite.resources import resource_root
from tests.tools.in_process import call_tool

SAMPLE = resource_root() / 'configs/isdnet/isdnet_r18_sample.py'
HERE = """
_base_ = [{base!r}]
data_root = {data!r}
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
"""
BY_COLOUR = """
model = dict(
    _delete_=True, type='EncoderDecoder',
    data_preprocessor=dict(
        type='isda_suite.SegDataPreProcessor', bgr_to_rgb=True, mean=[0.0] * 3, std=[1.0] * 3),
    backbone=dict(type='SamePixels'),
    decode_head=dict(
        type='FCNHead', in_channels=3, in_index=0, channels=3, num_convs=0, concat_input=False,
        num_classes=6, loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'))
"""


@MODELS.register_module()
class SamePixels(nn.Module):
    """A backbone that gives the image."""

    def forward(self, image):
        return (image,)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Return the sample with its labels, in their colours, for images."""
    root = tmp_path_factory.mktemp('data') / 'sample'
    write_sample_semantic(root, num_train=1, num_val=2, progress=False)
    palette = np.array(Config.fromfile(SAMPLE).metainfo.palette, np.uint8)[:, ::-1]
    for path in (root / 'labels/val').iterdir():
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (label != label[:, ::-1]).any()
        coded = cv2.imencode('.png', palette[label])[1].tobytes()
        (root / f'images/val/{path.stem}.jpg').write_bytes(coded)
    return root


@pytest.fixture
def evaluate(data, tmp_path, monkeypatch, capsys):
    """Evaluate a model through the tool; returns its mean IoU and its class maps."""

    def run(text, fill, *options):
        config, weights, out = (tmp_path / name for name in ('mirrored.py', 'w.pth', 'out.json'))
        config.write_text(HERE.format(base=str(SAMPLE), data=f'{data}/') + text)
        torch.manual_seed(0)
        model = build_model(config)
        fill(model)
        torch.save({'state_dict': model.state_dict()}, weights)
        test = ('tools/test.py', config, weights, '--work-dir', tmp_path / 'w', '--out', out)
        assert call_tool(monkeypatch, *test, '--eval', 'mIoU', *options) == 0
        printed = re.search(r'^mIoU +(\S+)', capsys.readouterr().out, re.MULTILINE)[1]
        return float(printed), {e['img_path']: _classes(e) for e in json.loads(out.read_text())}

    return run


def _classes(entry):
    classes = np.zeros(entry['size_hw'], np.int64)
    for label, rle in entry['sem_seg'].items():
        classes[coco_mask.decode(rle) > 0] = int(label)
    return classes


def _nearest_colour(model):
    """Fill the classifier: 2 c x - c c is largest for the colour c that is nearest to x."""
    colours = torch.tensor(Config.fromfile(SAMPLE).metainfo.palette).float()
    classifier = model.decode_head.conv_seg
    with torch.no_grad():
        classifier.weight.copy_(2 * colours[..., None, None])
        classifier.bias.copy_(-colours.square().sum(1))


def test_a_model_that_sees_mirrored_images_mirrored_loses_nothing(evaluate):
    """Labels that were mirrored too, or predictions that were not mirrored back, would cost."""
    assert evaluate(BY_COLOUR, _nearest_colour)[0] == 100
    assert evaluate(BY_COLOUR, _nearest_colour, '--tta')[0] == 100


def test_isdnet_gives_the_mean_of_both_views(evaluate):
    kept = []

    def fill(model):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.bias.data.normal_()
        kept.append(model.eval())

    _, found = evaluate('', fill, '--tta')
    for path, classes in found.items():
        image = torch.from_numpy(cv2.imread(path)).permute(2, 0, 1)
        with torch.no_grad():
            views = [
                kept[0].encode_decode(kept[0].data_preprocessor({'inputs': [view]})['inputs'], [])
                for view in (image, image.flip(2))
            ]
        plain, mirrored = (view.softmax(1) for view in views)
        expected = (plain + mirrored.flip(3)).argmax(1)[0].numpy()
        assert (expected != plain.argmax(1)[0].numpy()).mean() > 0.01, 'the mirror image counts'
        assert (expected != classes).mean() < 1e-3
