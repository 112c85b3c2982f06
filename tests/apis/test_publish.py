import os

import numpy as np
import pytest
import torch

from isda_suite.apis.publish import publish_checkpoint
from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.integrity import hex_digest
from isda_suite.checkpoint.safe_load import load_file
from isda_suite.engine.errors import ConfigError
from tests.checkpoint.probes import write_probes

PALETTE = [(220, 20, 60), (119, 11, 32)]


@pytest.fixture
def trained(tmp_path):
    """Write a checkpoint as a training leaves it."""
    shared = torch.arange(4.0)
    content = {
        'meta': {
            'epoch': np.int64(3),
            'iter': 12,
            'cfg': 'lr = 0.1\n',
            'seed': 7,
            'experiment_name': 'secret',
            'dataset_meta': {'classes': ('cat', 'dog'), 'palette': np.array(PALETTE), 'x': 1},
        },
        'state_dict': {'module.a': shared, 'module.b': shared, 'n': torch.tensor(5)},
        'optimizer': {'state': {0: torch.zeros(1000)}},
        'message_hub': {'log_scalars': {}},
    }
    torch.save(content, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth'


def test_both_files_hold_the_weights_and_plain_facts_and_nothing_else(trained, tmp_path):
    written = publish_checkpoint(trained, tmp_path / 'out' / 'tiny_1.5x')
    assert [file.suffix for file in written] == ['.safetensors', '.pth']
    for file in written:
        content = load_file(file)
        assert content.keys() == {'state_dict', 'meta'}
        assert content['meta'] == {
            'epoch': 3,
            'iter': 12,
            'config_text': 'lr = 0.1\n',
            'dataset_meta': {'classes': ['cat', 'dog'], 'palette': [list(c) for c in PALETTE]},
        }
        assert content['state_dict'].keys() == {'a', 'b', 'n'}
        assert content['state_dict']['b'].tolist() == [0, 1, 2, 3]
        assert content['state_dict']['n'] == 5


def test_each_name_carries_the_hash_of_its_own_content(trained, tmp_path):
    written = publish_checkpoint(trained, tmp_path / 'out' / 'tiny.pth')
    for file, digest in written.items():
        assert hex_digest(file) == digest
        assert file.name == f'tiny-{digest[:8]}{file.suffix}'
        assert file.stat().st_mode == trained.stat().st_mode, 'for others to read, too'
    assert sorted(os.listdir(tmp_path / 'out')) == sorted(file.name for file in written)


def test_equal_weights_give_equal_names(trained, tmp_path):
    first, second = (publish_checkpoint(trained, tmp_path / f / 'tiny') for f in ('a', 'b'))
    assert list(first.values()) == list(second.values())


def test_class_names_of_mmdet_2_are_kept(tmp_path):
    torch.save({'meta': {'CLASSES': ('ant',)}, 'state_dict': {'a': torch.ones(1)}}, tmp_path / 'a')
    for file in publish_checkpoint(tmp_path / 'a', tmp_path / 'out'):
        assert load_file(file)['meta'] == {'dataset_meta': {'classes': ['ant']}}


def test_what_cannot_be_published_leaves_nothing(trained, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    with pytest.raises(ConfigError, match='is a folder: give FOLDER/NAME'):
        publish_checkpoint(trained, out)
    torch.save({'meta': {}}, tmp_path / 'empty.pth')
    with pytest.raises(CheckpointError, match='holds no tensors'):
        publish_checkpoint(tmp_path / 'empty.pth', out / 'a')
    torch.save({'state_dict': {'a': torch.ones(2).to_sparse()}}, tmp_path / 'sparse.pth')
    with pytest.raises(CheckpointError, match='sparse'):
        publish_checkpoint(tmp_path / 'sparse.pth', out / 'a')
    for probe in write_probes(tmp_path, tmp_path / 'ran')[:1]:
        with pytest.raises(UnsafeCheckpointError):
            publish_checkpoint(probe, out / 'a')
    assert not os.listdir(out) and not (tmp_path / 'ran').exists()
