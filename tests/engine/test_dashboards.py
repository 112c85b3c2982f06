"""Dashboards: the lines of the documentation build mmengine's classes; absent ones are named."""

import ast
import importlib.util
import re

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
