"""Wrong input through the real tools: one exit code, one message that says what to do.

Everything runs in this process on the toy segmenter; what needs ISDA itself has a module of its
own beside this one.
"""

import json

import cv2
import numpy as np
import pytest
import torch

from tests.engine.toy import ToySegmenter, write_coco, write_config
from tests.tools.in_process import call_tool

TRAIN = 'annotations/instances_train.json'


@pytest.fixture
def data(tmp_path):
    return write_coco(tmp_path / 'data')


@pytest.fixture
def tool(tmp_path, data, monkeypatch, capsys):
    """Run a tool on the toy configuration; returns its exit code and what it said."""

    def run(script, *arguments, extra=''):
        monkeypatch.chdir(tmp_path)
        config = write_config(tmp_path, data, extra)
        work_dir = () if '--work-dir' in arguments else ('--work-dir', 'w')
        code = call_tool(monkeypatch, script, config, *arguments, *work_dir)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.err

    return run


def change_json(data, change, name=TRAIN):
    content = json.loads((data / name).read_text())
    change(content)
    (data / name).write_text(json.dumps(content))


def save_weights(path, num_classes=2, **more):
    torch.manual_seed(0)
    torch.save({'state_dict': ToySegmenter(num_classes).state_dict(), **more}, path)


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ('optim_wraper = dict()', "unknown key 'optim_wraper', did you mean 'optim_wrapper'?"),
        (
            "model.update(type='ToySegmentor')",
            "model.type: 'ToySegmentor' is not in.*'ToySegmenter'",
        ),
        ('model.update(nan_att=3)', "model.nan_att: .*did you mean 'nan_at'"),
        ("train_pipeline[0].update(type='LoadImageFromFil')", "did you mean 'LoadImageFromFile'"),
        ("optim_wrapper['optimizer'].update(momentun=0.9)", "did you mean 'momentum'"),
        ('model.update(', r'toy\.py cannot be read: SyntaxError'),
        ('model.update(num_classes=3)', r'num_classes=3, but the data set has 2 classes \(red'),
        ('optim_wrapper.update(type="ApexOptimWrapper")\n', 'OptimWrapper or AmpOptimWrapper'),
    ],
)
def test_a_wrong_configuration_names_key_and_remedy(tool, extra, message):
    code, said = tool('tools/train.py', '--amp', extra=extra)
    assert code == 2
    assert_matches(message, said)


def assert_matches(pattern, text):
    import re

    assert re.search(pattern, text), text


def test_every_missing_path_comes_in_one_message(tool, data):
    (data / TRAIN).unlink()
    (data / 'val/0.png').rename(data / '0.png')
    options = ['load_from=gone.pth', 'val_dataloader.dataset.data_prefix.img=nowhere/']
    code, said = tool('tools/train.py', '--cfg-options', *options)
    assert code == 2
    for part in ('load_from: gone.pth', f'data/{TRAIN}', 'data/nowhere/', 'working directory'):
        assert part in said


def test_a_work_dir_that_cannot_be_written(tool, data):
    code, said = tool('tools/train.py', '--work-dir', data / TRAIN / 'below')
    assert code == 2
    assert 'cannot be written' in said and '--work-dir' in said


def _rename_a_class(data):
    change_json(data, lambda c: c['categories'][1].update(name='greenish'))


def _cut_the_json(data):
    text = (data / TRAIN).read_text()
    (data / TRAIN).write_text(text[: len(text) // 2])


def _rle_of_another_size(data):
    rle = {'size': [48, 32], 'counts': [0, 100, 48 * 32 - 100]}
    change_json(data, lambda c: c['annotations'][3].update(segmentation=rle))


def _image_of_another_size(data):
    cv2.imwrite(str(data / 'train/1.png'), np.zeros((48, 32, 3), np.uint8))


def _remove_an_image(data):
    (data / 'train/2.png').unlink()


def _cut_an_image(data):
    content = (data / 'train/1.png').read_bytes()
    (data / 'train/1.png').write_bytes(content[: len(content) // 3])


def _web_page_as_image(data):
    (data / 'train/0.png').write_text('<!DOCTYPE html><html>not found</html>')


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_image_of_another_size, r'train/1\.png: the image is .*\(48, 32\), its annotation says'),
        (_cut_an_image, r'train/1\.png: its \d+ bytes cannot be decoded'),
        (_web_page_as_image, r'train/0\.png: it holds text, not an image'),
    ],
)
def test_a_wrong_image_stops_training_with_its_name(tool, data, spoil, message, workers):
    spoil(data)
    reader = "train_pipeline[0].update(type='isda_suite.LoadImage')"
    option = f'train_dataloader.num_workers={workers}'
    code, said = tool('tools/train.py', '--cfg-options', option, extra=reader)
    assert code == 3
    assert_matches(message, said)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_rename_a_class, r"class 'green' of the config .*nearest: greenish"),
        (_cut_the_json, r'instances_train\.json is not a whole json file'),
        (_rle_of_another_size, r'RLE size \(h, w\) = \(48, 32\) but the image is \(32, 48\)'),
        (_remove_an_image, r'no image .*train/2\.png'),
    ],
)
def test_wrong_annotations_stop_before_the_model_is_built(tool, data, spoil, message, monkeypatch):
    monkeypatch.setattr(ToySegmenter, '__init__', lambda *args, **kwargs: pytest.fail('built'))
    spoil(data)
    code, said = tool('tools/train.py')
    assert code == 3
    assert_matches(message, said)


def test_the_order_of_categories_in_the_json_changes_nothing(tool, data, tmp_path):
    def swap(content):
        content['categories'].reverse()
        for one in content['categories']:
            one['id'] = 3 - one['id']
        for one in content['annotations']:
            one['category_id'] = 3 - one['category_id']

    assert tool('tools/train.py', '--work-dir', 'before')[0] == 0
    for name in (TRAIN, 'annotations/instances_val.json'):
        change_json(data, swap, name)
    assert tool('tools/train.py', '--work-dir', 'after')[0] == 0
    before, after = (torch.load(tmp_path / w / 'iter_4.pth', weights_only=False)['state_dict']
                     for w in ('before', 'after'))  # fmt: skip
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_batch_without_objects_trains(tool, data, tmp_path):
    change_json(data, lambda c: c['annotations'].clear())
    assert tool('tools/train.py', extra='train_dataloader["dataset"]["filter_cfg"] = None')[0] == 0
    assert (tmp_path / 'w/iter_4.pth').is_file()


def test_a_checkpoint_of_another_model_or_class_count_is_refused(tool, tmp_path):
    torch.save({'state_dict': {'encoder.weight': torch.zeros(3)}}, tmp_path / 'other.pth')
    save_weights(tmp_path / 'three.pth', num_classes=3)
    (tmp_path / 'torn.pth').write_bytes((tmp_path / 'three.pth').read_bytes()[:700])
    for name, message in [
        ('other.pth', r'encoder\.weight'),
        ('three.pth', r'has 3 outputs in the checkpoint and 2 in the model: set num_classes'),
        ('torn.pth', r'torn\.pth \(700 bytes\) cannot be read'),
    ]:
        for arguments in (('tools/test.py', name), ('tools/train.py', '--resume', name)):
            code, said = tool(*arguments)
            assert code == 2
            assert_matches(message, said)


def test_an_evaluation_that_does_not_fit_the_data_names_those_that_do(tool, tmp_path):
    save_weights(tmp_path / 'good.pth')
    code, said = tool('tools/test.py', 'good.pth', '--eval', 'mIoU')
    assert code == 2
    assert 'CocoInstanceDataset can be evaluated by segm, bbox' in said
    code, said = tool('tools/test.py', 'good.pth', '--tta')
    assert code == 2
    assert 'no tta_model' in said and 'queries of two views' in said
