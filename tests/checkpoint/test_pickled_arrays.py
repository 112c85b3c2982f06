import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from isda_suite.apis.convert import convert_checkpoint
from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.pickled_arrays import load_pickled
from tests.checkpoint.probes import MakeFolder


def _write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_arrays_are_read(tmp_path, protocol):
    arrays = OrderedDict(a=np.arange(6.0, dtype=np.float32).reshape(2, 3), n=np.array(7))
    content = {'model': arrays, '__author__': 'somebody', 'scale': np.float32(2)}
    state = load_pickled(_write(tmp_path / 'w.pkl', content, protocol))['state_dict']
    assert torch.equal(state['a'], torch.arange(6.0).reshape(2, 3)) and state['n'] == 7


def test_arrays_of_machines_with_another_byte_order_are_read(tmp_path):
    content = {'a': np.array([1.5, -2], '>f4')}
    state = load_pickled(_write(tmp_path / 'w.pkl', content))['state_dict']
    assert state['a'].tolist() == [1.5, -2]


def test_numbers_that_torch_lacks_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r'w\.pkl: .*longdouble'):
        load_pickled(_write(tmp_path / 'w.pkl', {'a': np.zeros(2, np.longdouble)}))


@pytest.mark.parametrize('protocol', [0, 2, 5])
def test_nothing_in_a_pickle_is_run_unless_it_is_trusted(tmp_path, protocol):
    trace = tmp_path / 'trace'
    content = {'model': {'a': np.zeros(2)}, 'extra': MakeFolder(trace)}
    bad = _write(tmp_path / 'bad.pkl', content, protocol)
    for read in (load_pickled, lambda path: convert_checkpoint(path, tmp_path / 'out.pth')):
        with pytest.raises(UnsafeCheckpointError, match=r'mkdir.*--trust-checkpoint'):
            read(bad)
    assert not trace.exists() and not (tmp_path / 'out.pth').exists()
    assert load_pickled(bad, trust=True)['state_dict']['a'].shape == (2,)
    assert trace.exists()


def test_damaged_and_empty_files_are_named(tmp_path):
    whole = pickle.dumps({'model': {'a': np.zeros(99)}})
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / 'w.pkl').write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r'w\.pkl'):
            load_pickled(tmp_path / 'w.pkl')
    with pytest.raises(CheckpointError, match='no arrays'):
        load_pickled(_write(tmp_path / 'w.pkl', {'model': {'a': 'text'}}))
    with pytest.raises(FileNotFoundError, match=r'gone\.pkl'):
        load_pickled(tmp_path / 'gone.pkl')
