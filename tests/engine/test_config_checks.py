import pytest
from mmengine.config import Config

from isda_suite.engine.config_checks import (
    check_keys,
    check_paths,
    check_work_dir,
    require_parts,
)
from isda_suite.engine.errors import ConfigError


@pytest.mark.parametrize(
    ('typo', 'meant'),
    [
        ('trian_cfg', 'train_cfg'),
        ('tarin_dataloader', 'train_dataloader'),
        ('train_dataloder', 'train_dataloader'),
        ('modle', 'model'),
        ('optim_wraper', 'optim_wrapper'),
        ('param_schedular', 'param_scheduler'),
        ('val_evaluater', 'val_evaluator'),
        ('default_hook', 'default_hooks'),
        ('load_form', 'load_from'),
        ('custom_import', 'custom_imports'),
    ],
)
def test_a_misspelt_key_is_refused_with_the_right_one(typo, meant):
    with pytest.raises(ConfigError, match=f"'{typo}', did you mean '{meant}'"):
        check_keys(Config({typo: {}}))


def test_variables_of_the_author_pass():
    # Names met in the stock configurations of mmdet and mmseg.
    names = """
        backend_args albu_train_transforms dataset_type img_scale max_epochs data_root classes
        train_pipeline train_pipeline_stage2 norm_cfg conv_cfg val_evaluator_abs dataset_train
        train_dataset test_metainfo optimizer num_classes runner metrics scale load_pipeline
        base_test_pipeline teacher_ckpt data_preprocessor _anything model2 tta_cfg cudnn_benchmark
    """
    check_keys(Config(dict.fromkeys(names.split(), 1)))


def test_all_misspelt_keys_are_named_at_once():
    with pytest.raises(ConfigError, match=r'trian_cfg.*modle'):
        check_keys(Config({'trian_cfg': 1, 'modle': 2}))


def test_missing_parts_are_named():
    with pytest.raises(ConfigError, match=r'no model, test_cfg, needed for testing'):
        require_parts(Config({'model': None}), ['model', 'test_cfg'], 'testing')


def test_all_missing_paths_come_in_one_message(tmp_path):
    (tmp_path / 'here').mkdir()
    cfg = Config(
        {
            'load_from': 'absent.pth',
            'model': {
                'backbone': {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'weights.pth'}},
                'neck': {'init_cfg': [{'type': 'Pretrained', 'checkpoint': 'torchvision://x'}]},
            },
            'train_dataloader': {
                'dataset': {
                    'type': 'RepeatDataset',
                    'dataset': {
                        'data_root': str(tmp_path / 'here'),
                        'ann_file': 'ann.json',
                        'data_prefix': {'img': 'pictures/', 'seg': ''},
                    },
                }
            },
            'val_dataloader': {'dataset': {'data_root': 'nowhere/', 'ann_file': 'b.json'}},
            'test_dataloader': {'dataset': {'data_root': 'not_used/'}},
        }
    )
    with pytest.raises(ConfigError) as raised:
        check_paths(cfg, ['train_dataloader', 'val_dataloader'], resume='gone.pth')
    text = str(raised.value)
    for part in (
        'resume: gone.pth',
        'load_from: absent.pth',
        'model.backbone.init_cfg.checkpoint: weights.pth',
        f'train_dataloader.dataset.dataset.ann_file: {tmp_path}/here/ann.json',
        f'train_dataloader.dataset.dataset.data_prefix.img: {tmp_path}/here/pictures/',
        'val_dataloader.dataset.data_root: nowhere/',
        'working directory:',
    ):
        assert part in text
    for part in ('torchvision', 'not_used', 'b.json'):
        assert part not in text


def test_data_behind_a_remote_client_is_not_looked_for():
    remote = {'data_root': 'nowhere/', 'backend_args': {'backend': 'petrel'}}
    check_paths(Config({'a': {'dataset': remote}}), ['a'])


def test_a_work_dir_below_a_file_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match=r'cannot be written .*--work-dir'):
        check_work_dir(tmp_path / 'file' / 'w')
    check_work_dir(tmp_path / 'new' / 'w')
    assert list((tmp_path / 'new' / 'w').iterdir()) == []
