import json
import pickle

import numpy as np
import pytest
import torch

from isda_suite.apis.test import evaluate
from isda_suite.apis.train import train
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.engine.errors import ConfigError
from tests.engine.toy import SIZE_HW, write_coco, write_config

_TTA = """
tta_model = dict(type='ToyTTA')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=0.0)],
        [dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape'))],
    ]),
]
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('toy')


@pytest.fixture(scope='module')
def config(folder):
    return write_config(folder, write_coco(folder / 'data'), _TTA)


@pytest.fixture(scope='module')
def checkpoint(config, folder):
    options = {'train_cfg.max_iters': 40, 'default_hooks.checkpoint.interval': 40}
    train(config, work_dir=folder / 'w', cfg_options=options)
    return folder / 'w/iter_40.pth'


@pytest.fixture(scope='module')
def everything(config, checkpoint, folder):
    """One evaluation with every output."""
    return evaluate(
        config,
        checkpoint,
        eval=['segm', 'bbox'],
        out=folder / 'found.json',
        show_dir=folder / 'pictures',
        work_dir=folder / 'w',
    )


def test_the_words_of_eval_replace_the_configured_metric(everything):
    assert everything['coco/segm_mAP'] > 0.5
    assert everything['coco/bbox_mAP'] > 0.5


def test_predictions_are_written_in_plain_form(everything, folder):
    from pycocotools import mask as coco_mask

    found = json.loads((folder / 'found.json').read_text())
    assert [entry['img_id'] for entry in found] == [1, 2, 3, 4]
    assert found[0]['size_hw'] == list(SIZE_HW)
    one = found[0]['instances'][0]
    mask = coco_mask.decode(one['segmentation'])
    x1, y1, x2, y2 = (round(side) for side in one['bbox'])
    ys, xs = np.nonzero(mask)
    assert [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] == [x1, y1, x2, y2]
    assert 0.5 < one['score'] <= 1 and one['label'] in (0, 1)


def test_every_image_is_drawn(everything, folder):
    import cv2

    pictures = sorted((folder / 'pictures').iterdir())
    assert [path.name for path in pictures] == ['0.png', '1.png', '2.png', '3.png']
    height, width = SIZE_HW
    drawn = cv2.imread(str(pictures[0]))  # the image, with ground truth if any, and predictions
    assert drawn.shape == (height, 2 * width, 3)
    assert (drawn[:, :width] != drawn[:, width:]).any()


def test_one_table_is_printed(config, checkpoint, folder, capsys):
    evaluate(config, checkpoint, out=folder / 'found.pkl', work_dir=folder / 'w')
    text = capsys.readouterr().out
    assert text.count('instances_val.json\n---') == 1
    assert 'coco/segm_mAP_50' in text
    with open(folder / 'found.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 4


def test_test_time_augmentation_comes_from_the_configuration(
    config, checkpoint, everything, folder
):
    metrics = evaluate(config, checkpoint, tta=True, work_dir=folder / 'w')
    assert metrics['coco/segm_mAP'] == pytest.approx(everything['coco/segm_mAP'])


def test_format_only_writes_files_and_computes_nothing(config, checkpoint, folder):
    assert evaluate(config, checkpoint, format_only=True, work_dir=folder / 'w') == {}
    assert len(json.loads((folder / 'w/results.segm.json').read_text())) >= 4


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'eval': ['mIoU']}, 'can be evaluated by segm, bbox'),
        ({'eval': ['seg']}, 'did you mean segm'),
        ({'out': 'found.txt'}, r'must end with one of \.json'),
        ({'checkpoint': 'absent.pth'}, r'checkpoint: absent\.pth'),
        ({'cfg_options': {'tta_model': None}, 'tta': True}, 'defines no tta_model'),
        ({'out_dir': 'report'}, '--out-dir: a confusion matrix counts pixels that have one class'),
        (
            {'cfg_options': {'model.num_classes': 3}},
            r'has 2 outputs in the checkpoint and 3 in the model',
        ),
    ],
)
def test_what_cannot_work_is_explained(config, checkpoint, folder, arguments, message):
    arguments = {'checkpoint': checkpoint, 'work_dir': folder / 'w', **arguments}
    with pytest.raises((ConfigError, CheckpointError), match=message):
        evaluate(config, **arguments)


def test_a_checkpoint_of_another_model_is_refused(config, folder, tmp_path):
    torch.save({'state_dict': {'encoder.weight': torch.zeros(3)}}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'encoder\.weight'):
        evaluate(config, tmp_path / 'other.pth', work_dir=folder / 'w')


def test_a_checkpoint_with_classes_in_another_order_is_refused(config, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=False)
    content['meta']['dataset_meta']['classes'] = ('green', 'red')
    torch.save(content, tmp_path / 'swapped.pth')
    with pytest.raises(CheckpointError, match='another order'):
        evaluate(config, tmp_path / 'swapped.pth', work_dir=tmp_path)


def test_data_without_annotations_points_to_format_only(config, checkpoint, folder, tmp_path):
    place = folder / 'data/annotations/instances_val.json'
    content = json.loads(place.read_text())
    content['annotations'] = []
    (tmp_path / 'image_info.json').write_text(json.dumps(content))
    options = {'test_dataloader.dataset.ann_file': str(tmp_path / 'image_info.json')}
    with pytest.raises(ConfigError, match='--format-only'):
        evaluate(config, checkpoint, eval=['segm'], cfg_options=options, work_dir=tmp_path)
