import os
import signal
import subprocess
import sys

import pytest
import torch

from isda_suite.checkpoint.atomic import save_checkpoint_atomically, write_atomically
from isda_suite.checkpoint.safe_load import load_file


def test_a_file_appears_complete_and_alone(tmp_path):
    target = tmp_path / 'new' / 'a.txt'
    with write_atomically(target, text=True) as file:
        file.write('whole ä')
        assert not target.exists()
    assert target.read_text(encoding='utf-8') == 'whole ä'
    assert os.listdir(target.parent) == ['a.txt']


def test_an_error_keeps_the_old_file_and_leaves_no_litter(tmp_path):
    target = tmp_path / 'a.bin'
    target.write_bytes(b'old')
    with pytest.raises(KeyError), write_atomically(target) as file:
        file.write(b'half')
        raise KeyError('stop')
    assert target.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['a.bin']


def test_a_kill_in_the_middle_keeps_the_old_file(tmp_path):
    target = tmp_path / 'a.bin'
    target.write_bytes(b'old')
    code = (
        'import os, signal, sys\n'
        'from isda_suite.checkpoint.atomic import write_atomically\n'
        'with write_atomically(sys.argv[1]) as file:\n'
        '    file.write(b"half"); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    done = subprocess.run([sys.executable, '-c', code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b'old'


def test_a_link_is_followed(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'real' / 'a.bin')
    with write_atomically(tmp_path / 'link') as file:
        file.write(b'x')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'real' / 'a.bin').read_bytes() == b'x'


def test_checkpoints_round_trip(tmp_path):
    save_checkpoint_atomically({'state_dict': {'a': torch.arange(3)}}, tmp_path / 'a.pth')
    assert load_file(tmp_path / 'a.pth')['state_dict']['a'].tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == ['a.pth']
