"""What is special about ISDA's input: sizes, options, batches and ranks without objects."""

import json
import socket
import subprocess
import sys

import pytest
import torch

from tests.tools.in_process import call_tool
from tests.tools.running import ROOT, environment

EMPTY_RANK = """
_base_ = [{config!r}]
custom_imports = dict(imports=['isda_suite', 'tests.methods.isda.rank_weights'],
                      allow_failed_imports=False)
default_hooks = dict(weights=dict(type='RankWeights', folder={folder!r}))
train_cfg = dict(max_iters=3, val_interval=10)
train_dataloader = dict(
    batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False), batch_sampler=None,
    dataset=dict(ann_file={ann_file!r}, filter_cfg=dict(filter_empty_gt=False)))
"""


@pytest.fixture
def train(config, tmp_path, monkeypatch, capsys):
    def run(*options, config=config):
        arguments = ('--work-dir', tmp_path / 'w', '--cfg-options', 'train_cfg.max_iters=1')
        code = call_tool(monkeypatch, 'tools/train.py', config, *arguments, *options)
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.err

    return run


@pytest.mark.parametrize(
    ('option', 'remedy'),
    [
        ('+model.bbox_head.position_mode=logits', 'bbox_head.position_mode: expected one of'),
        ('+model.bbox_head.target_down=max', 'bbox_head.target_down: expected one of'),
        ('+model.mask_feat_source=backbone', 'mask_feat_source: expected one of'),
        ('model.bbox_head.type=isda_suite.ISDAHeadd', "did you mean 'isda_suite.ISDAHead'"),
        ('+model.bbox_head.mask_chanels=64', "did you mean 'mask_channels'"),
        ('model.num_querys=9', 'did you mean model.num_queries'),
        ('model.bbox_head.num_classes=7', 'num_classes=7, but the data set has 5 classes'),
        ('+model.with_box_refine=True', 'with_box_refine: ISDA has no boxes to refine'),
        ('model.backbone.depth=51', 'isda_tiny.py cannot be built: KeyError: invalid depth 51'),
        ('+model.encoder.num_cp=1', 'set activation_checkpointing'),
    ],
)
def test_a_wrong_option_ends_with_code_2(train, option, remedy):
    code, said = train(option)
    assert code == 2, said
    assert remedy in said


def test_sizes_that_are_no_multiple_of_32_name_the_option(train, config, tmp_path):
    odd = tmp_path / 'odd.py'
    odd.write_text(
        f"""
_base_ = [{str(config)!r}]
pipeline = [dict(type='isda_suite.LoadImage'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale=(50, 50)), dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
"""
    )
    code, said = train('model.data_preprocessor.pad_size_divisor=1', config=odd)
    assert code == 2
    assert 'multiples of 32, got 50 x 50' in said and 'pad_size_divisor=32' in said
    assert train(config=odd)[0] == 0, 'with the divisor images of any size train'


def _without_objects(data, tmp_path, kept):
    """Write annotations of which only every image with an index in ``kept`` has objects."""
    content = json.loads((data / 'annotations/instances_train.json').read_text())
    images = [image['id'] for image in content['images']]
    wanted = {images[index] for index in kept}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in wanted]
    assert bool(content['annotations']) == bool(kept)
    path = tmp_path / 'thinned.json'
    path.write_text(json.dumps(content))
    return path


def test_a_batch_without_objects_trains(train, data, tmp_path):
    path = _without_objects(data, tmp_path, kept=[])
    dataset = 'train_dataloader.dataset'
    code, said = train(f'{dataset}.ann_file={path}', f'{dataset}.filter_cfg.filter_empty_gt=False')
    assert code == 0, said


def test_a_rank_without_objects_finishes_and_both_stay_equal(config, data, tmp_path):
    """Two gloo ranks, started as mpirun does and without a compiled library; one sees no object."""
    path = _without_objects(data, tmp_path, kept=[0, 2])
    wrapper = tmp_path / 'ranks.py'
    wrapper.write_text(
        EMPTY_RANK.format(config=str(config), folder=str(tmp_path), ann_file=str(path))
    )
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(wrapper), '--launcher', 'mpi']
    ranks = []
    for rank in ('0', '1'):
        prefix = 'OMPI_COMM_WORLD_'
        variables = {f'{prefix}RANK': rank, f'{prefix}LOCAL_RANK': rank, f'{prefix}SIZE': '2',
                     f'{prefix}LOCAL_SIZE': '2', 'MASTER_PORT': port,
                     'ISDA_OPS_LIBRARY': str(tmp_path / 'nowhere.so')}  # fmt: skip
        ranks.append(
            subprocess.Popen(
                [*command, '--work-dir', str(tmp_path / 'w'), '--seed', '0'],
                env=environment(**variables),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [one.communicate(timeout=300)[1] for one in ranks]
    assert [one.returncode for one in ranks] == [0, 0], said
    assert all('python -m isda_suite.ops build' in text for text in said)
    first, second = (torch.load(tmp_path / f'rank_{rank}.pth') for rank in (0, 1))
    assert first['objects'] > 0 and second['objects'] == 0
    assert first['weights'].keys() == second['weights'].keys()
    for name, value in first['weights'].items():
        assert torch.equal(value, second['weights'][name]), name
        assert torch.isfinite(value).all(), name
    moved = [n for n, v in first['weights'].items() if not torch.equal(v, first['before'][n])]
    assert {name.split('.')[0] for name in moved} >= {
        'backbone', 'neck', 'encoder', 'decoder', 'bbox_head', 'mask_feat_head',
    }  # fmt: skip
