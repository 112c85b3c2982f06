"""IDIP through the real tools: train, resume, evaluate, draw."""

import json

from tests.tools.in_process import call_tool


def test_train_resume_evaluate_and_draw(config, tmp_path, monkeypatch):
    work_dir = tmp_path / 'run'
    train = ('tools/train.py', config, '--work-dir', work_dir, '--seed', 0)
    assert call_tool(monkeypatch, *train) == 0
    assert (work_dir / 'iter_2.pth').is_file()
    more = ('--cfg-options', 'train_cfg.max_iters=3', 'train_cfg.val_interval=3')
    resumed = (*train, '--resume', 'auto', '--amp', '--allow-config-change')
    assert call_tool(monkeypatch, *resumed, *more) == 0
    found = []
    for name, options in (('a', ()), ('b', ()), ('c', ('model.test_cfg.seed=1',))):
        out, shown = tmp_path / f'{name}.json', tmp_path / name
        test = ('tools/test.py', config, work_dir / 'iter_3.pth', '--eval', 'segm', 'bbox')
        drawing = ('--show-dir', shown, '--show-score-thr', 0.0) if name == 'a' else ()
        extra = ('--cfg-options', 'model.test_cfg.sampling_steps=2', *options)
        assert call_tool(monkeypatch, *test, '--out', out, *drawing, *extra) == 0
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1] != found[2], 'results follow from the seed'
    assert len(found[0]) == 2 and len(list((tmp_path / 'a').rglob('*.*'))) == 2
    events = [file for file in work_dir.rglob('events.out.tfevents*') if file.stat().st_size]
    assert events, 'TensorBoard is written without being asked for'
