"""ISDA through the real tools: train, resume, evaluate, draw, two ranks."""

import json

import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope

from isda_suite.registry import MODELS
from tests.tools.gradients import first_gradients, largest_relative_difference
from tests.tools.in_process import call_tool


def test_train_resume_evaluate_and_draw(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work_dir = tmp_path / 'run'
    train = ('tools/train.py', config, '--work-dir', work_dir, '--seed', 0)
    assert call_tool(monkeypatch, *train) == 0
    assert (work_dir / 'iter_2.pth').is_file()
    more = ('--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=3')
    resumed = (*train, '--resume', 'auto', '--amp')
    assert call_tool(monkeypatch, *resumed, *more) == 2, 'another precision was not asked for'
    assert call_tool(monkeypatch, *resumed, '--allow-config-change', *more) == 0
    checkpoint = work_dir / 'iter_3.pth'
    out, shown = tmp_path / 'found.json', tmp_path / 'shown'
    test = ('tools/test.py', config, checkpoint, '--eval', 'segm', 'bbox', '--out', out)
    assert call_tool(monkeypatch, *test, '--show-dir', shown, '--show-score-thr', 0.0) == 0
    assert len(json.loads(out.read_text())) == 2
    assert len(list(shown.rglob('*.*'))) == 2


def test_a_checkpoint_with_other_classes_is_refused(config, tmp_path, monkeypatch, capsys):
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    cfg.model.bbox_head.num_classes = 7
    path = tmp_path / 'seven.pth'
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {}}, path)
    code = call_tool(monkeypatch, 'tools/test.py', config, path, '--work-dir', tmp_path / 'w')
    assert code not in (0, None)
    assert '--num-classes 5' in capsys.readouterr().err


@pytest.mark.ranks
def test_two_ranks_compute_the_gradients_of_one_with_twice_the_batch(config, tmp_path):
    """Normalisers are averaged over ranks, so the number of ranks does not matter."""
    extra = """
custom_imports = dict(imports=['isda_suite', 'tests.engine.toy'], allow_failed_imports=False)
train_dataloader = dict(sampler=dict(shuffle=False), batch_sampler=None, batch_size={batch_size},
    dataset=dict(pipeline=[
        dict(type='isda_suite.LoadImage'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='PackDetInputs')]))
train_cfg = dict(max_iters=1, val_interval=10)
randomness = dict(seed=0)
"""
    folder = tmp_path / 'ranks'
    folder.mkdir()
    two = first_gradients(config, folder, 2, 1, extra.format(batch_size=1))
    one = first_gradients(config, folder, 1, 2, extra.format(batch_size=2))
    assert largest_relative_difference(one, two) < 1e-5
