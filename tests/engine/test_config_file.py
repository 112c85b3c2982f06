import pytest
from mmengine.config import Config

from isda_suite.engine.config_file import (
    apply_options,
    find_config,
    parse_options,
    read_config,
    read_sources,
)
from isda_suite.engine.errors import ConfigError


@pytest.fixture
def cfg():
    return Config(
        {
            'model': {'type': 'X', 'heads': [{'num_classes': 3}, {'num_classes': 3}]},
            'train_dataloader': {'batch_size': 2},
        }
    )


@pytest.mark.parametrize(
    'name', ['isda_r50_3x_coco', 'isda/isda_r50_3x_coco.py', 'configs/isda/isda_r50_3x_coco.py']
)
def test_a_shipped_configuration_is_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name).name == 'isda_r50_3x_coco.py'


def test_a_file_here_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'isda_r50_3x_coco.py').write_text('model = 1')
    assert find_config('isda_r50_3x_coco.py').read_text() == 'model = 1'


def test_a_missing_configuration_names_the_nearest():
    with pytest.raises(ConfigError, match='isda_r50_3x_coco'):
        find_config('isda_r50_3x_cocoo.py')
    with pytest.raises(ConfigError, match='is a folder'):
        find_config('/')


def test_an_error_inside_a_configuration_names_the_file(tmp_path):
    path = tmp_path / 'bad.py'
    path.write_text('model = dict(')
    with pytest.raises(ConfigError, match=r'bad\.py cannot be read'):
        read_config(path)
    other = tmp_path / 'bad.txt'
    other.write_text('x')
    with pytest.raises(ConfigError, match='must end with'):
        read_config(other)


def test_yaml_runs_no_code(tmp_path):
    probe = tmp_path / 'probe'
    path = tmp_path / 'bad.yaml'
    path.write_text(f'model: !!python/object/apply:os.mkdir ["{probe}"]')
    with pytest.raises(ConfigError, match='could not determine a constructor'):
        read_config(path)
    assert not probe.exists()


def test_options_change_what_is_there(cfg):
    apply_options(cfg, {'train_dataloader.batch_size': 8, 'model.heads.1.num_classes': 5})
    assert cfg.train_dataloader.batch_size == 8
    assert [head.num_classes for head in cfg.model.heads] == [3, 5]


@pytest.mark.parametrize(
    ('key', 'hint'),
    [
        ('tarin_dataloader.batch_size', 'train_dataloader'),
        ('train_dataloader.batch_sise', 'train_dataloader.batch_size'),
        ('model.heads.2.num_classes', r'model\.heads of'),
        ('modle', 'model'),
    ],
)
def test_an_option_for_an_absent_key_is_refused_with_the_nearest(cfg, key, hint):
    with pytest.raises(ConfigError, match=hint):
        apply_options(cfg, {key: 8})


def test_a_plus_adds_a_key_and_runner_keys_need_none(cfg):
    apply_options(cfg, {'+model.neck.type': 'FPN', 'randomness.seed': 3, 'work_dir': 'w'})
    assert cfg.model.neck.type == 'FPN'
    assert cfg.randomness.seed == 3


def test_an_option_below_a_value_that_has_no_keys_is_refused(cfg):
    with pytest.raises(ConfigError, match=r'train_dataloader\.batch_size\.x'):
        apply_options(cfg, {'+train_dataloader.batch_size.x': 1})


def test_option_words_are_literals():
    found = parse_options(['a.b=1', 'c=[1,2]', '+d=text', "e=__import__('os').getcwd()"])
    assert found == {'a.b': 1, 'c': [1, 2], '+d': 'text', 'e': "__import__('os').getcwd()"}
    with pytest.raises(ConfigError, match='key=value'):
        parse_options(['novalue'])


@pytest.mark.parametrize('value', ["{'type':'Resize','scale':(5,5)}", '[1,2', '(1,[2)'])
def test_a_value_that_cannot_be_read_says_what_can(value):
    with pytest.raises(ConfigError, match='one key at a time'):
        parse_options([f'a.b={value}'])


def test_the_old_option_for_the_port_is_mapped_and_the_new_one_named(capsys):
    assert parse_options(None, ['dist_params.port=29501']) == {'+env_cfg.dist_cfg.port': 29501}
    assert '--cfg-options +env_cfg.dist_cfg.port=29501' in capsys.readouterr().err
    assert parse_options(['a=1'], None) == {'a': 1}
    assert capsys.readouterr().err == ''


def test_the_old_place_of_the_port_is_read_and_the_new_one_named(tmp_path, capsys, monkeypatch):
    """As in two configurations of mmdet 2, one for each of two jobs on a machine."""
    (tmp_path / 'base.py').write_text("env_cfg = dict(dist_cfg=dict(backend='nccl'))\n")
    for number in (1, 2):
        text = f"_base_ = ['base.py']\ndist_params = dict(backend='gloo', port=2950{number})\n"
        (tmp_path / f'config{number}.py').write_text(text)
    for number in (1, 2):
        cfg = read_config(tmp_path / f'config{number}.py')
        assert cfg.env_cfg.dist_cfg == dict(backend='gloo', port=29500 + number)
        assert 'dist_params' not in cfg
        said = capsys.readouterr().err
        assert f'config{number}.py' in said and f'port=2950{number}' in said
    options = parse_options(['+env_cfg.dist_cfg.port=29507'])
    assert read_config(tmp_path / 'config1.py', options).env_cfg.dist_cfg.port == 29507
    monkeypatch.setenv('SLURM_PROCID', '1')
    capsys.readouterr()
    read_config(tmp_path / 'config1.py')
    assert capsys.readouterr().err == '', 'said by the first process alone'


def test_sources_are_shown_without_running_them(tmp_path):
    (tmp_path / 'base.py').write_text(f'import os\nos.mkdir({str(tmp_path / "probe")!r})\n')
    (tmp_path / 'top.py').write_text("_base_ = ['base.py']\nx = 1\n")
    sources = read_sources(tmp_path / 'top.py')
    assert [path.name for path, _ in sources] == ['base.py', 'top.py']
    assert not (tmp_path / 'probe').exists()
