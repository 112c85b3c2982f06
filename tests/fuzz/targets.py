"""What must hold for a file from outside, whatever bytes it consists of.

A target takes the bytes that a fuzzer made and fails if a reader raises anything but its documented
errors, runs code, or lets something pass that cannot be used afterwards. `run.py` feeds them with
bytes that reach new code; `test_seeds.py` with those that once found a fault.
"""

import copy
import json
import pickle
import random
import struct
import sys
import zipfile
from contextlib import contextmanager

from isda_suite.apis.downloads.archives import extract
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.checkpoint.pickled_arrays import load_pickled
from isda_suite.checkpoint.safe_load import load_file
from isda_suite.datasets.checks import inspect_dataset
from isda_suite.datasets.errors import DataError
from isda_suite.registry import DATASETS
from tests.data.coco_fake import make as coco_fake
from tests.data.youtube_vis_fake import make as youtube_vis_fake

#: Values that readers tend to forget about.
VALUES = [
    None, True, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308, float('nan'), float('inf'),
    '', 'a', '../x', '/etc/x', '0.jpg', '\0', 'é', 'cat', [], [[]], [0], [1, 2, 3, 4],
    [[1, 2, 3, 4, 5, 6]], [[[1, 2]]], [None], ['a'], {}, {'size': [48, 64]}, {'counts': [1]},
    {'size': [48, 64], 'counts': [-5, 3077]}, {'size': [48, 64], 'counts': '0000'},
    {'size': [0, 0], 'counts': []}, {'size': ['a', None], 'counts': [0]},
]  # fmt: skip
#: What reading data must never do.
FORBIDDEN = {
    'os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'subprocess.Popen', 'socket.connect',
    'os.mkdir', 'os.remove', 'os.rename', 'shutil.rmtree', 'exec',
}  # fmt: skip
_watching = False


def _frames():
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _audit(event, arguments):
    # Modules that are imported on first use are executed too.
    if not _watching or event not in FORBIDDEN:
        return
    if event != 'exec' or all(one.f_code.co_name != '_find_and_load' for one in _frames()):
        raise AssertionError(f'a file made its reader do this: {event} {arguments!r}')


sys.addaudithook(_audit)


@contextmanager
def nothing_runs():
    global _watching
    _watching = True
    try:
        yield
    finally:
        _watching = False


def changed(content, data):
    """Return a copy of nested dicts and lists with changes that the bytes choose."""
    content, choices = copy.deepcopy(content), iter(data)

    def choose(count):
        return next(choices) % count

    try:
        while True:
            place, key = {'root': content}, 'root'
            while isinstance(place[key], dict | list) and place[key] and choose(8):
                place = place[key]
                keys = list(place) if isinstance(place, dict) else range(len(place))
                key = keys[choose(len(keys))]
            _change(place, key, choose(4), choose(len(VALUES)))
            content = place['root'] if key == 'root' else content
    except (StopIteration, KeyError):
        return content


def _change(place, key, action, value):
    if action == 0 and key != 'root':
        del place[key]
    elif action == 1 and isinstance(place, list):
        place.insert(key, copy.deepcopy(place[key]))
    elif action == 1 and isinstance(place[key], str):
        place[key] += 'é'
    else:
        place[key] = copy.deepcopy(VALUES[value])


def _samples_if_it_passes(config, pipeline, **changes):
    with nothing_runs():
        try:
            (report,) = inspect_dataset(config)
            if report.fatal:
                return
        except DataError:
            return
        dataset = DATASETS.build({**config, **changes, '_scope_': 'mmdet', 'pipeline': pipeline})
        for index in range(len(dataset)):
            try:
                yield dataset[index]
            except DataError:  # of the pixels, which the check at the start does not read
                pass


def _must_load_if_it_passes(config, pipeline, **changes):
    for _ in _samples_if_it_passes(config, pipeline, **changes):
        pass


def coco(data, folder):
    """Change an annotation file; what passes its check must load."""
    if not (folder / 'train').exists():
        coco_fake.make(folder)
    text = json.dumps(changed(coco_fake.content(), data))
    (folder / 'annotations/instances_train.json').write_text(text)
    pipeline = [
        dict(type='isda_suite.LoadImage'),
        dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='mmdet.PackDetInputs'),
    ]
    config = coco_fake.config(folder, filter_cfg=None)
    _must_load_if_it_passes(config, pipeline)


def coco_text(data, folder):
    """Read bytes as an annotation file."""
    if not (folder / 'train').exists():
        coco_fake.make(folder)
    (folder / 'annotations/instances_train.json').write_bytes(data)
    _must_load_if_it_passes(coco_fake.config(folder), [])


def youtube_vis(data, folder):
    """Change a video annotation file; what passes its check must load."""
    if not (folder / 'annotations').exists():
        youtube_vis_fake.make(folder)
    config = youtube_vis_fake.config(folder)
    text = json.dumps(changed(youtube_vis_fake.content(), data))
    (folder / config['ann_file']).write_text(text)
    pipeline = [
        dict(
            type='mmcv.TransformBroadcaster',
            transforms=[
                dict(type='isda_suite.LoadImage'),
                dict(type='mmdet.LoadTrackAnnotations', with_mask=True),
            ],
        ),
        dict(type='mmdet.PackTrackInputs'),
    ]
    # Training samples some frames, a test takes all.
    _must_load_if_it_passes(config, pipeline, test_mode=True)


def youtube_vis_clips(data, folder):
    """Change a video annotation file; clips of what passes have sound targets, or none."""
    if not (folder / 'annotations').exists():
        youtube_vis_fake.make(folder)
    config = youtube_vis_fake.config(folder)
    text = json.dumps(changed(youtube_vis_fake.content(), data))
    (folder / config['ann_file']).write_text(text)
    load = [dict(type='isda_suite.LoadImage'), dict(type='isda_suite.LoadClipAnnotations')]
    frames = [
        dict(type='mmcv.TransformBroadcaster', transforms=load),
        dict(type='isda_suite.PackClipInputs'),
    ]
    pipeline = [dict(type='isda_suite.SampleClip', num_frames=3), *frames]
    for sample in _samples_if_it_passes(config, pipeline):
        rows = [one.gt_instances for one in sample['data_samples'].video_data_samples]
        assert all(one.instances_ids.equal(rows[0].instances_ids) for one in rows)
        for one in rows:
            filled = [bool(mask.any()) for mask in one.masks.masks]
            assert one.valid.tolist() == filled, 'an absent instance, or an empty mask as a target'
    clips = dict(type='isda_suite.YouTubeVISClipDataset', clip_len=3, overlap=1, test_mode=True)
    _must_load_if_it_passes({**config, **clips}, frames)


def _reads_as_weights(read, path):
    with nothing_runs():
        try:
            assert isinstance(read(path), dict)
        except CheckpointError:
            pass


def checkpoint(data, folder):
    """Read bytes as a checkpoint."""
    (folder / 'a.pth').write_bytes(data)
    _reads_as_weights(load_file, folder / 'a.pth')


def checkpoint_pickle(data, folder):
    """Read bytes as the instructions inside a whole checkpoint."""
    with zipfile.ZipFile(folder / 'a.pth', 'w') as archive:
        archive.writestr('archive/data.pkl', data)
        archive.writestr('archive/byteorder', 'little')
        archive.writestr('archive/data/0', struct.pack('<4f', 1, 2, 3, 4))
        archive.writestr('archive/version', '3\n')
    _reads_as_weights(load_file, folder / 'a.pth')


def safetensors(data, folder):
    """Read bytes as a safetensors file; its header comes with the right length."""
    header, _, body = data.partition(b'\0')
    (folder / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + body)
    _reads_as_weights(load_file, folder / 'a.safetensors')


def arrays(data, folder):
    """Read bytes as a pickle of arrays."""
    (folder / 'a.pkl').write_bytes(data)
    _reads_as_weights(load_pickled, folder / 'a.pkl')


def _unpacks(data, folder, name):
    (folder / name).write_bytes(data)
    inside = folder / 'inside'
    inside.mkdir(exist_ok=True)
    before = {path.name for path in folder.iterdir()}
    try:
        extract(folder / name, inside / 'unpacked', max_bytes=2**20)
    except ValueError:
        pass
    assert {path.name for path in folder.iterdir()} == before
    assert {path.name for path in inside.iterdir()} <= {'unpacked'}
    assert not [path for path in inside.rglob('*') if path.is_symlink()]
    assert not list((inside / 'unpacked').glob('.*.unpack-*'))


def archive_tar(data, folder):
    """Unpack bytes as a tar archive."""
    _unpacks(data, folder, 'a.tar')


def archive_zip(data, folder):
    """Unpack bytes as a zip archive."""
    _unpacks(data, folder, 'a.zip')


TARGETS = {
    target.__name__: target
    for target in (
        coco, coco_text, youtube_vis, youtube_vis_clips, checkpoint, checkpoint_pickle,
        safetensors, arrays, archive_tar, archive_zip,
    )
}  # fmt: skip


def examples(name, folder):
    """Yield sound files for a target, from which a fuzzer starts."""
    import numpy as np
    import torch

    weights = {'state_dict': {'a': torch.ones(2)}, 'meta': {'classes': ('x',), 'epoch': 1}}
    if name == 'coco_text':
        yield json.dumps(coco_fake.content()).encode()
    elif name in ('checkpoint', 'checkpoint_pickle'):
        for new in (True, False):
            torch.save(weights, folder / 'e.pth', _use_new_zipfile_serialization=new)
            content = (folder / 'e.pth').read_bytes()
            if name == 'checkpoint_pickle' and new:
                with zipfile.ZipFile(folder / 'e.pth') as archive:
                    content = archive.read('e/data.pkl')
            yield content
    elif name == 'safetensors':
        yield b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}\0\0\0\0\0'
    elif name == 'arrays':
        for protocol in (2, 4):
            yield pickle.dumps({'model': {'a': np.ones(2, np.float32)}}, protocol)
    elif name.startswith('archive_'):
        yield from _archives(name, folder)
    else:
        for seed in range(20):
            yield random.Random(seed).randbytes(6 * seed)


def _archives(name, folder):
    import tarfile

    (folder / 'file').write_text('x')
    if name == 'archive_zip':
        with zipfile.ZipFile(folder / 'e', 'w') as archive:
            archive.write(folder / 'file', 'folder/file')
    else:
        with tarfile.open(folder / 'e', 'w') as archive:
            archive.add(folder / 'file', 'folder/file')
    yield (folder / 'e').read_bytes()
