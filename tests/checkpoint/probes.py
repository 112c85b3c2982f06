"""Files that would leave a trace if anything in them ran."""

import os
import pickle
from pathlib import Path

import torch


class MakeFolder:
    """Unpickling an instance makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def program(folder: Path) -> str:
    """Text of a config that makes a folder when it is executed."""
    return f'import os\nos.mkdir({str(folder)!r})\ngpu_ids = []\n'


def write_probes(where: Path, trace: Path) -> list[Path]:
    """Write one refused file of each kind; running any of them makes ``trace``."""
    probe = MakeFolder(trace)
    weights = {'weight': torch.zeros(1, 2), 'bias': torch.zeros(1)}
    kinds = {
        'zip': lambda f: torch.save({'state_dict': weights, 'extra': probe}, f),
        'nested': lambda f: torch.save({'state_dict': weights, 'meta': {'a': [{'b': probe}]}}, f),
        'key': lambda f: torch.save({'state_dict': {'weight': probe}}, f),
        'legacy': lambda f: torch.save({'x': probe}, f, _use_new_zipfile_serialization=False),
        'protocol4': lambda f: torch.save({'x': probe}, f, pickle_protocol=4),
        'plain2': lambda f: f.write_bytes(pickle.dumps({'x': probe}, protocol=2)),
        'plain5': lambda f: f.write_bytes(pickle.dumps({'x': probe}, protocol=5)),
    }
    files = []
    for name, write in kinds.items():
        files.append(where / f'{name}.pth')
        write(files[-1])
    return files
