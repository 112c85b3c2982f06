import argparse

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.safe_load import load_file
from tests.checkpoint.probes import MakeFolder, program, write_probes


def _log_buffer(*values):
    buffer = HistoryBuffer()
    for value in values:
        buffer.update(value)
    return buffer


def test_code_in_a_file_is_refused_with_its_name_and_the_flag(tmp_path):
    trace = tmp_path / 'ran'
    for file in write_probes(tmp_path, trace):
        with pytest.raises(UnsafeCheckpointError) as error:
            load_file(file)
        assert not trace.exists(), file.name
        for word in (str(file), 'mkdir', '--trust-checkpoint'):
            assert word in str(error.value), file.name


def test_the_probe_is_alive_when_the_file_is_trusted(tmp_path):
    trace = tmp_path / 'ran'
    file = write_probes(tmp_path, trace)[0]
    assert set(load_file(file, trust=True)) == {'state_dict', 'extra'}
    assert trace.exists()


def test_what_mmengine_saves_is_read(tmp_path):
    file = tmp_path / 'a.pth'
    buffer = _log_buffer(1.0, 3.0)
    content = {
        'meta': {'epoch': 2, 'best': np.float64(0.5), 'count': np.int64(7), 'flag': np.bool_(True)},
        'message_hub': {'log_scalars': {'loss': buffer}, 'table': np.arange(3, dtype=np.uint8)},
        'args': argparse.Namespace(lr=0.1),
        'state_dict': {'weight': torch.ones(2)},
    }
    torch.save(content, file)
    got = load_file(file)
    assert got['meta'] == {'epoch': 2, 'best': 0.5, 'count': 7, 'flag': True}
    assert got['message_hub']['log_scalars']['loss'].mean() == 2.0
    assert got['message_hub']['table'].tolist() == [0, 1, 2]
    assert got['args'].lr == 0.1
    assert torch.equal(got['state_dict']['weight'], torch.ones(2))


def test_arrays_saved_under_numpy_1_are_read(tmp_path):
    """numpy 1 writes numpy.core.multiarray where numpy 2 writes numpy._core.multiarray."""
    file = tmp_path / 'a.pth'
    torch.save({'meta': {'best': np.float64(0.5)}}, file, _use_new_zipfile_serialization=False)
    old = file.read_bytes().replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    assert b'numpy.core.multiarray' in old
    file.write_bytes(old)
    assert load_file(file)['meta']['best'] == 0.5


class _ReachIn:
    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return getattr, self.args


@pytest.mark.parametrize('owner, name', [(HistoryBuffer, '__init__'), (np.ndarray, 'tofile')])
def test_getattr_reaches_nothing_but_statistics(tmp_path, owner, name):
    file = tmp_path / 'a.pth'
    torch.save({'x': _ReachIn(owner, name)}, file)
    with pytest.raises(UnsafeCheckpointError, match=name):
        load_file(file)


def test_a_load_leaves_the_list_of_torch_as_it_was(tmp_path):
    file = tmp_path / 'a.pth'
    torch.save({'args': argparse.Namespace(lr=0.1)}, file)
    before = torch.serialization.get_safe_globals()
    load_file(file)
    assert set(torch.serialization.get_safe_globals()) == set(before)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('percent', [0, 1, 50, 99])
def test_a_torn_file_is_named_with_its_size(tmp_path, zipped, percent):
    file = tmp_path / 'a.pth'
    torch.save({'state_dict': {'a': torch.zeros(300)}}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    size = len(whole) * percent // 100
    file.write_bytes(whole[:size])
    with pytest.raises(CheckpointError) as error:
        load_file(file)
    assert not isinstance(error.value, UnsafeCheckpointError)
    assert str(file) in str(error.value) and f'{size} bytes' in str(error.value)


def test_a_web_page_is_recognised(tmp_path):
    file = tmp_path / 'a.pth'
    file.write_bytes(b'\n<!DOCTYPE html><html><body>404</body></html>')
    with pytest.raises(CheckpointError, match='web page'):
        load_file(file)


def test_a_tensor_alone_is_no_checkpoint(tmp_path):
    torch.save(torch.zeros(2), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='Tensor'):
        load_file(tmp_path / 'a.pth')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth does not exist'):
        load_file(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match='is a folder'):
        load_file(tmp_path)


def test_texts_of_configs_are_kept_where_nothing_runs_them(tmp_path):
    text = program(tmp_path / 'ran')
    content = {
        'meta': {'config': text, 'epoch': 1},
        'message_hub': {'runtime_info': {'cfg': text, 'iter': 3}, 'resumed_keys': {'cfg': True}},
    }
    torch.save(content, tmp_path / 'a.pth')
    got = load_file(tmp_path / 'a.pth')
    assert got['meta'] == {'epoch': 1, 'config_text': text}
    assert got['message_hub'] == {'runtime_info': {'iter': 3}, 'resumed_keys': {}}


def test_trust_does_not_run_texts_of_configs(tmp_path):
    trace = tmp_path / 'ran'
    torch.save({'meta': {'cfg': program(trace)}, 'x': MakeFolder(tmp_path / 'y')}, tmp_path / 'a')
    assert 'cfg' not in load_file(tmp_path / 'a', trust=True)['meta']
    assert not trace.exists()
