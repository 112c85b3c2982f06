import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.safe_load import load_file
from isda_suite.checkpoint.safetensors_file import separate, write_safetensors
from tests.checkpoint.probes import program

META = {'epoch': 3, 'dataset_meta': {'classes': ['cät', 'dog']}}


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_weights_and_meta_come_back_as_they_were(tmp_path, dtype):
    state = {'a': torch.arange(6).reshape(2, 3).to(dtype), 'none': torch.zeros(0, 4, dtype=dtype)}
    write_safetensors(state, META, tmp_path / 'a.safetensors')
    got = load_file(tmp_path / 'a.safetensors')
    assert got['meta'] == META
    assert got['state_dict'].keys() == state.keys()
    assert all(torch.equal(got['state_dict'][k], v) for k, v in state.items())
    assert got['state_dict']['a'].dtype == dtype


def test_equal_content_gives_equal_bytes(tmp_path):
    """With two keys in the header every second writing differs."""
    files = [tmp_path / f'{index}.safetensors' for index in range(12)]
    for file in files:
        write_safetensors({'b': torch.ones(2), 'a': torch.zeros(3)}, META, file)
    assert len({file.read_bytes() for file in files}) == 1


def test_tied_and_transposed_weights_keep_every_name(tmp_path):
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    second.weight = first.weight
    model = nn.ModuleList([first, second])
    state = {**model.state_dict(), 'view': first.weight.t()[1:]}
    write_safetensors(separate(state), {}, tmp_path / 'a.safetensors')
    got = load_file(tmp_path / 'a.safetensors')['state_dict']
    assert got.keys() == state.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in state.items())


def test_files_of_other_programs_have_no_meta(tmp_path):
    save_file({'a': torch.ones(2)}, tmp_path / 'a.safetensors', {'format': 'pt', 'meta': 'x'})
    assert load_file(tmp_path / 'a.safetensors')['meta'] == {}


@pytest.mark.parametrize('percent', [0, 1, 50, 99])
def test_a_torn_file_is_named_with_its_size(tmp_path, percent):
    file = tmp_path / 'a.safetensors'
    write_safetensors({'a': torch.zeros(300)}, META, file)
    whole = file.read_bytes()
    size = len(whole) * percent // 100
    file.write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match=rf'a\.safetensors \({size} bytes\) is not a compl'):
        load_file(file)


@pytest.mark.parametrize('meta', ['{"epoch": ', '[1]', '[' * 100_000])
def test_a_header_that_is_no_object_is_refused(tmp_path, meta):
    save_file({'a': torch.ones(2)}, tmp_path / 'a.safetensors', {'isda_suite_meta': meta})
    with pytest.raises(CheckpointError, match=r'a\.safetensors'):
        load_file(tmp_path / 'a.safetensors')


def test_the_text_of_a_config_is_kept_where_nothing_runs_it(tmp_path):
    text = program(tmp_path / 'ran')
    header = {'isda_suite_meta': json.dumps({'cfg': text, 'config': text})}
    save_file({'a': torch.ones(2)}, tmp_path / 'a.safetensors', header)
    assert load_file(tmp_path / 'a.safetensors')['meta'] == {'config_text': text}
