import hashlib

import pytest
import torch

from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.integrity import hash_in_name, hex_digest
from isda_suite.checkpoint.pickled_arrays import load_pickled
from isda_suite.checkpoint.safe_load import load_file
from isda_suite.checkpoint.safetensors_file import write_safetensors

WEIGHTS = {'a': torch.arange(300.0)}


def _named(tmp_path, suffix):
    """Write weights under a name with the hash of their content."""
    draft = tmp_path / f'draft{suffix}'
    if suffix == '.pth':
        torch.save({'state_dict': WEIGHTS}, draft)
    else:
        write_safetensors(WEIGHTS, {}, draft)
    return draft.rename(tmp_path / f'a-{hex_digest(draft)[:8]}{suffix}')


@pytest.mark.parametrize(
    ('name', 'digits'),
    [
        ('isda-0123abcd.pth', '0123abcd'),
        ('mask_rcnn_1x_coco_20200205-d4b0c5d6.pth', 'd4b0c5d6'),
        ('a-0123abcd.safetensors', '0123abcd'),
        (f'a-{"0f" * 32}.pth', '0f' * 32),
        ('isda_r50_8xb1-36e_coco.pth', None),
        ('resnet-50.pth', None),
        ('a-0123ABCD.pth', None),
        ('a-0123abcd-b.pth', None),
        ('model_final_f10217ab.pkl', None),
    ],
)
def test_digits_at_the_end_of_a_name_are_a_hash(name, digits):
    assert hash_in_name(name) == digits


def test_hashes_are_those_of_hashlib(tmp_path):
    content = bytes(range(256)) * 5000  # longer than one piece
    (tmp_path / 'a').write_bytes(content)
    assert hex_digest(tmp_path / 'a') == hashlib.sha256(content).hexdigest()
    assert hex_digest(tmp_path / 'a', 'md5') == hashlib.md5(content).hexdigest()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_one_flipped_byte_is_found_and_both_hashes_are_named(tmp_path, suffix):
    file = _named(tmp_path, suffix)
    whole = file.read_bytes()
    assert torch.equal(load_file(file)['state_dict']['a'], WEIGHTS['a'])
    for place in (0, len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError) as error:
            load_file(file)
        for word in (str(file), hash_in_name(file.name), hex_digest(file)[:8], 'rename the file'):
            assert word in str(error.value)


def test_trust_does_not_excuse_another_content(tmp_path):
    file = tmp_path / 'a-0123abcd.pth'
    torch.save({'state_dict': WEIGHTS}, file)
    with pytest.raises(CheckpointError, match='the name says 0123abcd'):
        load_file(file, trust=True)
    assert load_file(file.rename(tmp_path / 'a_0123abcd.pth')).keys() == {'state_dict'}


def test_pickled_arrays_are_compared_too(tmp_path):
    (tmp_path / 'a-0123abcd.pkl').write_bytes(b'')
    with pytest.raises(CheckpointError, match='the name says 0123abcd'):
        load_pickled(tmp_path / 'a-0123abcd.pkl')
