"""One fault a row of Inria's layout, through the check of its data and through training."""

import cv2
import numpy as np
import pytest

from tests.data.inria_fake.make import ids, make
from tests.engine.toy_segmentor import write_config
from tests.tools.in_process import call_tool

IMAGE, LABEL = 'imgs/train/chicago2_sat.tif', 'labels/train/chicago2_mask.png'
INRIA = """
model['decode_head'].update(num_classes=2)
for _loader in (train_dataloader, val_dataloader):
    _loader['dataset'].update(
        type='isda_suite.InriaAerialDataset',
        data_prefix=dict(img_path='imgs/train', seg_map_path='labels/train'))
"""


def _write(path, pixels):
    assert cv2.imwrite(str(path), pixels)


def _rename_images(data):
    for path in (data / 'imgs/train').iterdir():
        path.rename(path.with_suffix('.jpg'))


FAULTS = {
    'no label': (lambda data: (data / LABEL).unlink(), 'image without a label'),
    'wrong suffix': (_rename_images, '0 of 3 images left'),
    'image empty': (lambda data: (data / IMAGE).write_bytes(b''), 'the file is empty'),
    'image cut off': (
        lambda data: (data / IMAGE).write_bytes((data / IMAGE).read_bytes()[:900]),
        'chicago2_sat.tif',
    ),
    'label of another size': (
        lambda data: _write(data / LABEL, ids(1)[:, :36]),
        'chicago2_mask.png',
    ),
    'colours': (
        lambda data: _write(data / LABEL, np.stack([ids(1)] * 3, -1)),
        'raw_masks=True',
    ),
    '0 and 255': (lambda data: _write(data / LABEL, 255 * ids(1)), 'chicago2_mask.png'),
    'no class': (lambda data: _write(data / LABEL, 7 * ids(1)), 'chicago2_mask.png'),
    '16 bits': (
        lambda data: _write(data / LABEL, 599 * ids(1).astype(np.uint16)),
        'chicago2_mask.png',
    ),
}


@pytest.mark.parametrize(('spoil', 'message'), FAULTS.values(), ids=FAULTS)
def test_a_fault_ends_both_tools_with_code_3(spoil, message, tmp_path, monkeypatch, capsys):
    data = make(tmp_path / 'data')
    config = write_config(tmp_path, data, INRIA)
    spoil(data)
    monkeypatch.chdir(tmp_path)
    for arguments in (('tools/check_dataset.py', config, '--images'), ('tools/train.py', config)):
        code = call_tool(monkeypatch, *arguments)
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert code == 3, said
        assert message in said and 'Traceback' not in captured.err


def test_sound_data_pass(tmp_path, monkeypatch):
    config = write_config(tmp_path, make(tmp_path / 'data'), INRIA)
    monkeypatch.chdir(tmp_path)
    assert call_tool(monkeypatch, 'tools/check_dataset.py', config, '--images') == 0
    assert call_tool(monkeypatch, 'tools/train.py', config) == 0
