"""Promises that every method keeps. A new method adds itself to METHODS."""

import pytest

from isda_suite.apis.train import train
from isda_suite.datasets.sample import write_sample_coco, write_sample_semantic
from isda_suite.datasets.sample_video import write_sample_videos
from tests.engine.toy import KilledError

ITERATIONS = 6
METHODS = {
    'isda': {
        'config': 'isda/isda_sample.py',
        'data': write_sample_coco,
        # Dropout and both kinds of workers; the rest is the configuration that people run.
        'options': {
            'model.num_queries': 12,
            'model.decoder.layer_cfg.ffn_cfg.ffn_drop': 0.1,
            'model.encoder.layer_cfg.self_attn_cfg.dropout': 0.1,
            'train_dataloader.batch_size': 2,
        },
    },
    'defvistr': {
        'config': 'defvistr/defvistr_sample.py',
        'data': write_sample_videos,
        'options': {'model.transformer.dropout': 0.1, 'model.transformer.encoder_cp': True},
    },
    'sotr': {
        'config': 'sotr/sotr_sample.py',
        'data': write_sample_coco,
        'options': {'train_dataloader.batch_size': 2},
    },
    'solq': {
        'config': 'solq/solq_sample.py',
        'data': write_sample_coco,
        # As for ISDA: dropout is what a restart can lose.
        'options': {
            'model.num_queries': 12,
            'model.decoder.layer_cfg.ffn_cfg.ffn_drop': 0.1,
            'model.encoder.layer_cfg.self_attn_cfg.dropout': 0.1,
            'train_dataloader.batch_size': 2,
        },
    },
    'idip': {
        'config': 'idip/idip_sample.py',
        'data': write_sample_coco,
        'options': {'model.num_proposals': 12, 'train_dataloader.batch_size': 2},
    },
    'isdnet': {
        'config': 'isdnet/isdnet_r18_sample.py',
        'data': write_sample_semantic,
        'options': {'train_dataloader.batch_size': 2},
    },
    # Its memory is read from the second step on, and is in the checkpoint of the killed run.
    'iuq': {
        'config': 'iuq/iuq_solov2-r18_sample.py',
        'data': write_sample_coco,
        'options': {'train_dataloader.batch_size': 2, '+model.memory.min_fill': 1},
    },
}


def _curve(method, data_root, folder, workers, kills=()):
    losses = folder / 'losses.txt'
    for die_at in (*kills, None):
        options = {
            **METHODS[method]['options'],
            'data_root': f'{data_root}/',
            'train_cfg.max_iters': ITERATIONS,
            'train_cfg.val_interval': 100,
            'train_dataloader.num_workers': workers,
            'train_dataloader.persistent_workers': workers > 0,
            'val_dataloader.num_workers': 0,
            'val_dataloader.persistent_workers': False,
            'default_hooks.checkpoint.interval': 2,
            'custom_hooks': [dict(type='LossFile', path=str(losses), die_at=die_at)],
        }
        try:
            train(
                METHODS[method]['config'], folder / 'w', resume='auto', seed=5, cfg_options=options
            )
        except KilledError:
            assert die_at is not None
    return dict(line.split() for line in losses.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_a_killed_run_continues_the_curve(method, tmp_path):
    write = METHODS[method]['data']
    data_root = write(tmp_path / 'data', num_train=8, num_val=1, progress=False)
    whole = _curve(method, data_root, tmp_path / 'whole', workers=0)
    assert len(whole) == len(set(whole.values())) == ITERATIONS
    assert _curve(method, data_root, tmp_path / 'killed', workers=2, kills=(3, 5)) == whole
