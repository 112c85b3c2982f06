"""Dashboards: the lines of the documentation build mmengine's classes; absent ones are named."""

import ast
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import mmengine.visualization  # noqa: F401  (registers the classes)
import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from isda_suite.apis.train import train
from isda_suite.engine.config_file import read_config
from isda_suite.engine.dashboards import DASHBOARDS, require_dashboards
from isda_suite.engine.errors import ConfigError
from tests.docs.documents import ROOT
from tests.engine.toy import write_coco, write_config


def _documented():
    """Return the entries of vis_backends in docs/looking.md."""
    text = (ROOT / 'docs/looking.md').read_text(encoding='utf-8')
    found = re.findall(r"^dict\(type='\w+VisBackend'.*\)$", text, re.MULTILINE)
    calls = [ast.parse(line, mode='eval').body for line in found]
    evaluate = {'dict': dict}
    return [eval(compile(ast.Expression(call), 'docs', 'eval'), evaluate) for call in calls]


def test_the_documentation_has_a_line_for_each_that_it_names():
    assert {one['type'] for one in _documented()} >= {
        'MLflowVisBackend', 'WandbVisBackend', 'ClearMLVisBackend', 'AimVisBackend',
    }  # fmt: skip


@pytest.mark.parametrize('entry', _documented(), ids=lambda one: one['type'])
def test_a_documented_line_builds_the_class(entry, tmp_path):
    built = VISBACKENDS.build({**entry, 'save_dir': str(tmp_path / 'logs')})
    assert type(built).__name__ == entry['type'] in DASHBOARDS


def test_tensorboard_is_on_by_default():
    cfg = read_config('isda_sample')
    kinds = [one['type'] for one in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend']
    require_dashboards(cfg)


@pytest.mark.parametrize('kind', [name for name, package in DASHBOARDS.items()
                                  if importlib.util.find_spec(package) is None])  # fmt: skip
def test_what_is_not_installed_is_named_with_the_remedy(kind):
    cfg = Config(dict(visualizer=dict(vis_backends=[dict(type=f'mmengine.{kind}')])))
    with pytest.raises(ConfigError, match=f'pip install {DASHBOARDS[kind]}'):
        require_dashboards(cfg)


def test_training_does_not_start_without_its_dashboard(tmp_path, monkeypatch):
    monkeypatch.setitem(DASHBOARDS, 'TensorboardVisBackend', 'no_such_package')
    config = write_config(tmp_path, write_coco(tmp_path / 'data'))
    with pytest.raises(ConfigError, match=r'vis_backends\[1\] is TensorboardVisBackend'):
        train(config, work_dir=tmp_path / 'w')
    assert not list(tmp_path.rglob('*.log'))


class _StandIns:
    """Modules in the place of the dashboards' packages, which note what is called."""

    def __init__(self, monkeypatch):
        self.modules = {}
        for name in ('mlflow', 'wandb', 'clearml', 'aim'):
            self.modules[name] = module = MagicMock(name=name)
            module.__spec__ = ModuleSpec(name, None, origin='stand-in')
            monkeypatch.setitem(sys.modules, name, module)
        self.mlflow, self.wandb, self.clearml, self.aim = self.modules.values()
        del self.wandb.join  # as of 2025

    def numbers(self):
        """Return the names of the numbers that each got."""
        task, run = self.clearml.Task.init.return_value, self.aim.Run.return_value
        reported = task.get_logger.return_value.report_scalar.call_args_list
        return {
            'mlflow': {
                key for call in self.mlflow.log_metrics.call_args_list for key in call[0][0]
            },
            'wandb': {key for call in self.wandb.log.call_args_list for key in call[0][0]},
            'clearml': {call[1]['title'] for call in reported},
            'aim': {call[1]['name'] for call in run.track.call_args_list},
        }

    def ends(self):
        """Return what tells each that the run is over."""
        task, run = self.clearml.Task.init.return_value, self.aim.Run.return_value
        return [self.mlflow.end_run, self.wandb.finish, task.close, run.close]


def test_a_training_reaches_the_documented_dashboards(tmp_path, monkeypatch):
    there = _StandIns(monkeypatch)
    wanted = ('MLflowVisBackend', 'WandbVisBackend', 'ClearMLVisBackend', 'AimVisBackend')
    entries = [one for one in _documented() if one['type'] in wanted]
    text = f'visualizer = dict(vis_backends={entries!r})'
    config = write_config(tmp_path, write_coco(tmp_path / 'data'), text)
    train(config, work_dir=tmp_path / 'w')
    for name, numbers in there.numbers().items():
        assert {'loss', 'lr', 'coco/segm_mAP'} <= numbers, name
    assert there.mlflow.set_tracking_uri.call_args[0] == ('http://localhost:5000',)
    assert there.wandb.init.call_args[1]['project'] == 'masks'
    assert there.clearml.Task.init.call_args[1]['task_name'] == 'isda'
    assert there.aim.Run.call_args[1]['experiment'] == 'isda'
    told = [
        there.wandb.config.update.call_args[0][0],
        there.clearml.Task.init.return_value.connect_configuration.call_args[0][0],
        there.aim.Run.return_value.__setitem__.call_args[0][1],
    ]
    assert all(config['model']['type'] == 'ToySegmenter' for config in told)
    assert there.mlflow.log_params.call_args[0][0]['model.type'] == 'ToySegmenter'
    assert all(end.called for end in there.ends())
