"""Files from outside are data, through every command that reads such a file.

Each case ends with an exit code and one message, and the probe in the file leaves no trace. What
the readers themselves refuse is tested beside them: tests/checkpoint,
tests/apis/downloads/test_archives.py.
"""

import functools
import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config

from isda_suite.apis.downloads import dataset_sources
from isda_suite.apis.downloads.archives import extract
from isda_suite.apis.downloads.dataset_sources import DatasetSources, Source
from isda_suite.apis.model import build_model
from isda_suite.cli import _COMMANDS, main
from tests.apis.archive_probes import UNSAFE, write_tar, write_unsafe, write_zip
from tests.apis.misbehaving_server import running_server
from tests.apis.tiny_isda import start_checkpoint, write_isda_config
from tests.checkpoint.probes import MakeFolder, program, write_probes
from tests.data.bombs import claims_pixels
from tests.data.deepglobe_fake.make import write_image, write_mask
from tests.engine import toy_segmentor
from tests.engine.toy import ToySegmenter, write_coco, write_config
from tests.reliability.commands import (
    ANNOTATION_READERS,
    CHECKPOINT_READERS,
    CONFIG_READERS,
    DOWNLOAD_READERS,
    LABEL_READERS,
    OPTION_READERS,
    RESULTS_READERS,
)

READ_NOTHING = {'write-sample', 'doctor', 'zoo'}
DOWNLOADS = {'download'}


def test_every_command_is_among_the_cases():
    tables = (
        CHECKPOINT_READERS,
        CONFIG_READERS,
        ANNOTATION_READERS,
        OPTION_READERS,
        DOWNLOAD_READERS,
        LABEL_READERS,
        RESULTS_READERS,
    )
    covered = {words[0] for table in tables for words in table.values()}
    assert covered | DOWNLOADS | READ_NOTHING == set(_COMMANDS)


@pytest.fixture(scope='module')
def detr():
    """Return weights that `convert` takes."""
    torch.manual_seed(0)

    def make(folder):
        return start_checkpoint(build_model(write_isda_config(folder, 3)).state_dict())

    return functools.cache(make)


@pytest.fixture
def trace(tmp_path):
    """Return the folder that every probe makes."""
    return tmp_path / 'ran'


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, trace):
    """Run a command in a folder with data, a configuration and weights; return code and words."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, write_coco(tmp_path / 'data'))
    toy_segmentor.write_config(tmp_path, tmp_path / 'data')
    torch.save({'state_dict': ToySegmenter(2).state_dict()}, 'toy.pth')

    def run(words, file=''):
        code = main([word.replace('FILE', str(file)) for word in words])
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        assert not trace.exists()
        return code, captured.out + captured.err

    return run


@pytest.mark.parametrize('reader', CHECKPOINT_READERS)
def test_code_in_a_checkpoint_is_refused(call, tmp_path, trace, reader):
    for probe in write_probes(tmp_path, trace)[::4]:  # one each of two kinds of pickles
        code, said = call(CHECKPOINT_READERS[reader], probe)
        assert code == 2
        assert f'{probe} was not loaded: it needs' in said and '--trust-checkpoint' in said
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('reader', ['test', 'publish', 'convert'])
def test_the_probe_in_a_checkpoint_is_alive(call, tmp_path, trace, reader):
    [probe, *_] = write_probes(tmp_path, trace)
    words = [word.replace('FILE', str(probe)) for word in CHECKPOINT_READERS[reader]]
    main([*words, '--trust-checkpoint'])
    assert trace.exists()


def test_code_in_pickled_arrays_is_refused(call, tmp_path, trace):
    bad = tmp_path / 'bad.pkl'
    bad.write_bytes(pickle.dumps({'model': {'a': np.zeros(2)}, 'x': MakeFolder(trace)}))
    code, said = call(CHECKPOINT_READERS['convert'], bad)
    assert code == 2 and 'only arrays are read' in said
    for reader in ('test', 'load_from', 'publish'):
        code, said = call(CHECKPOINT_READERS[reader], bad)
        assert code == 2 and 'bad.pkl' in said
    pickle.loads(bad.read_bytes())
    assert trace.exists(), 'the probe is alive'


@pytest.mark.parametrize('reader', CHECKPOINT_READERS)
def test_text_of_a_config_in_a_checkpoint_is_not_run(call, tmp_path, trace, detr, reader):
    """These files are harmless to read; mmengine would run the texts afterwards."""
    if reader == 'convert':
        state = detr(tmp_path)
    elif reader == 'segment':
        state = build_model(tmp_path / 'toy_segmentor.py').state_dict()
    else:
        state = ToySegmenter(2).state_dict()
    if reader == 'resume':
        assert call(['train', 'toy.py', '--work-dir', 'before'])[0] == 0
        content = torch.load('before/iter_2.pth', weights_only=False)
    else:
        content = {'meta': {}, 'state_dict': state, 'message_hub': {'runtime_info': {}}}
    content['meta'].update(cfg=program(trace), config=program(trace))
    content['message_hub']['runtime_info']['cfg'] = program(trace)
    torch.save(content, tmp_path / 'text.pth')
    # The toy takes images, and has neither queries, attention nor a form for export, which is said
    # after its weights were read.
    expected = 2 if reader in ('predict-video', 'responses', 'attention', 'export') else 0
    assert call(CHECKPOINT_READERS[reader], tmp_path / 'text.pth')[0] == expected
    Config.fromstring(program(trace), '.py')
    assert trace.exists(), 'the probe is alive'


def _write_config(kind, folder, trace):
    """Write a configuration that runs code although it is none of the programs (.py)."""
    tagged = f'model: !!python/object/apply:os.mkdir ["{trace}"]\n'
    (folder / 'tagged.yaml').write_text(tagged)
    (folder / 'base.py').write_text("_base_ = ['tagged.yaml']\n")
    (folder / 'pickled.pkl').write_bytes(pickle.dumps(MakeFolder(trace)))
    (folder / 'pickled.json').write_bytes(pickle.dumps(MakeFolder(trace), protocol=0))
    return folder / kind


@pytest.mark.parametrize('kind', ['tagged.yaml', 'base.py', 'pickled.pkl', 'pickled.json'])
@pytest.mark.parametrize('reader', CONFIG_READERS)
def test_a_config_of_plain_data_runs_nothing(call, tmp_path, trace, detr, reader, kind):
    if reader == 'convert':
        torch.save({'state_dict': detr(tmp_path)}, tmp_path / 'detr.pth')
    code, said = call(CONFIG_READERS[reader], _write_config(kind, tmp_path, trace))
    assert code == 2
    said_of = {'pickled.pkl': 'must end with', 'pickled.json': 'cannot be read: JSONDecodeError'}
    assert said_of.get(kind, 'could not determine a constructor') in said
    assert kind in said and not (tmp_path / 'out').exists()


def test_safe_shows_a_config_with_code(call, tmp_path, trace):
    for kind in ('tagged.yaml', 'base.py'):
        code, _ = call(['print-config', 'FILE', '--safe'], _write_config(kind, tmp_path, trace))
        assert code == 0


@pytest.mark.parametrize('reader', OPTION_READERS)
def test_values_of_options_stay_text(call, trace, reader):
    code_text = f"__import__('os').mkdir('{trace}')"
    options = [f'+note={form.format(code_text)}' for form in ('{}', '[{}]', '({},)', '"{}"')]
    # Read first, refused for the last of them, so that nothing else has to run.
    code, said = call([*OPTION_READERS[reader], '--cfg-options', *options, 'absent.key=1'])
    assert code == 2 and "has no 'absent'" in said


def test_an_option_is_shown_as_the_text_it_is(call, trace):
    code_text = f"__import__('os').mkdir('{trace}')"
    code, said = call(['print-config', 'toy.py', '--cfg-options', f'+note={code_text}'])
    assert code == 0 and f'note = "{code_text}"' in said


@pytest.mark.parametrize('reader', ANNOTATION_READERS)
def test_an_image_outside_of_the_data_is_refused(call, tmp_path, reader):
    (tmp_path / 'secret.png').write_bytes((tmp_path / 'data/train/0.png').read_bytes())
    for file in (tmp_path / 'data/annotations').iterdir():
        content = json.loads(file.read_text())
        content['images'][1]['file_name'] = '../../secret.png'
        file.write_text(json.dumps(content))
    code, said = call(ANNOTATION_READERS[reader])
    assert code == 3
    assert '../../secret.png' in said and 'allow_outside=True' in said
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('reader', ANNOTATION_READERS)
def test_a_pickle_in_place_of_annotations_is_not_run(call, tmp_path, trace, reader):
    for file in (tmp_path / 'data/annotations').iterdir():
        file.write_bytes(pickle.dumps(MakeFolder(trace)))
    code, said = call(ANNOTATION_READERS[reader])
    assert code == 3
    assert 'is not a whole json file' in said


@pytest.mark.parametrize('reader', ['train', 'test', 'browse'])
def test_a_pickle_that_a_stock_data_set_reads_is_not_run(call, tmp_path, trace, reader):
    bad = tmp_path / 'bad.pkl'
    bad.write_bytes(pickle.dumps({'0.png': MakeFolder(trace)}))
    options = [f'+{s}_dataloader.dataset.proposal_file={bad}' for s in ('train', 'test')]
    code, said = call([*ANNOTATION_READERS[reader], '--cfg-options', *options])
    assert code == 3
    assert 'mkdir' in said and 'write it as json' in said
    pickle.loads(bad.read_bytes())
    assert trace.exists(), 'the probe is alive'


@pytest.mark.parametrize('reader', RESULTS_READERS)
def test_a_pickle_in_place_of_results_is_not_run(call, tmp_path, trace, reader):
    (tmp_path / 'results.json').write_text('[]')
    video = {'id': 1, 'width': 2, 'height': 2, 'length': 1, 'file_names': ['a.jpg']}
    mask = {'size': [2, 2], 'counts': [0, 4]}
    track = {'id': 1, 'video_id': 1, 'category_id': 1, 'iscrowd': 0, 'segmentations': [mask]}
    track |= {'bboxes': [[0, 0, 2, 2]], 'areas': [4]}
    content = {'videos': [video], 'categories': [{'id': 1, 'name': 'x'}], 'annotations': [track]}
    (tmp_path / 'tracks.json').write_text(json.dumps(content))
    bad = tmp_path / 'bad.json'
    bad.write_bytes(pickle.dumps(MakeFolder(trace)))
    code, said = call(RESULTS_READERS[reader], bad)
    assert code == 3 and 'bad.json' in said
    pickle.loads(bad.read_bytes())
    assert trace.exists(), 'the probe is alive'


def _raw_download(folder, kind, name):
    """Write one image and mask as their owners publish them; returns the folder and both files."""
    inner = ('images/{}.tif', 'gt/{}.tif') if kind == 'inria' else ('{}_sat.jpg', '{}_mask.png')
    root = folder / ('train' if kind == 'inria' else '')
    image, mask = (root / one.format(name) for one in inner)
    write_image(image, np.zeros((8, 8), np.uint8))
    write_mask(mask, np.zeros((8, 8, 3), np.uint8))
    return folder, image, mask


@pytest.mark.parametrize('name', ['../../secret', '{}/secret'])
@pytest.mark.parametrize('kind', DOWNLOAD_READERS)
def test_a_name_of_a_list_that_leaves_its_folder_is_refused(call, tmp_path, kind, name):
    src, *_ = _raw_download(tmp_path / 'src/deep', kind, '7')
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists/train.txt').write_text(f'7\n{name.format(tmp_path)}\n')
    code, said = call([word.replace('SRC', str(src)) for word in DOWNLOAD_READERS[kind]])
    assert code == 3 and 'train.txt: ' in said and 'leads out of the folder' in said
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('kind', DOWNLOAD_READERS)
def test_a_mask_that_claims_too_many_pixels_is_refused(call, tmp_path, kind):
    src, image, mask = _raw_download(tmp_path / 'src', kind, '7')
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists/train.txt').write_text('7')
    for bad in (mask, image):
        bad.write_bytes(claims_pixels(40_000))
        code, said = call([word.replace('SRC', str(src)) for word in DOWNLOAD_READERS[kind]])
        assert code == 3 and bad.name in said
    assert not list((tmp_path / 'out').rglob('*.*'))


def _download(call, monkeypatch, archive):
    """Offer the archive as the one file of a data set and let the command unpack it."""
    files = {archive.name: archive.read_bytes()}
    source = Source(f'https://x/{archive.name}')
    monkeypatch.setitem(dataset_sources.SOURCES, 'bad', DatasetSources('data/bad', (source,)))
    with running_server(files) as (address, _):
        words = ['download', '--dataset-name', 'bad', '--save-dir', 'deep/down', '--unzip']
        return call([*words, '--allow-http', '--base-url', f'{address}/good'])


@pytest.mark.parametrize('name', UNSAFE)
def test_an_archive_that_leaves_its_folder_is_not_unpacked(call, tmp_path, monkeypatch, name):
    (tmp_path / 'victim').write_text('mine')
    code, said = _download(call, monkeypatch, write_unsafe(tmp_path, name))
    assert code == 1
    assert f'failed: {name}: ' in said
    assert 'leads out of the folder' in said or 'is a link or device' in said
    assert not list(tmp_path.rglob('evil')) and not list(tmp_path.rglob('ok'))
    assert (tmp_path / 'victim').stat().st_nlink == 1


@pytest.mark.parametrize('write', [write_tar, write_zip])
def test_an_archive_with_too_many_entries_is_not_unpacked(call, tmp_path, monkeypatch, write):
    few = functools.partial(extract, max_files=10)
    monkeypatch.setattr('isda_suite.apis.downloads.download.extract', few)
    archive = write(tmp_path / f'many.{write.__name__[-3:]}', {f'{i}.png': b'' for i in range(20)})
    code, said = _download(call, monkeypatch, archive)
    assert code == 1 and 'holds more than 10 entries' in said
    assert not list((tmp_path / 'deep').rglob('*.png'))


@pytest.mark.parametrize('name', ['large.zip', 'large.tar.gz'])
def test_an_archive_that_grows_too_much_is_not_unpacked(call, tmp_path, monkeypatch, name):
    write = write_zip if name.endswith('zip') else functools.partial(write_tar, mode='w:gz')
    archive = write(tmp_path / name, {'zeros.png': bytes(80 << 20)})
    code, said = _download(call, monkeypatch, archive)
    assert code == 1 and 'would unpack to 83886080 bytes' in said
    assert not list((tmp_path / 'deep').rglob('*.png'))


_BOMB = '<!DOCTYPE a [<!ENTITY b "{text}"><!ENTITY c "&b;&b;">]><{root}>&c;</{root}>'
_OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><{root}>&b;</{root}>'


@pytest.mark.parametrize(
    ('kind', 'name', 'text'),
    [
        ('yolo', 'a.txt', '0 ' + '9' * 5000),
        ('yolo', 'a.txt', '0 1e999 0 1 1'),
        ('voc', 'a.xml', _BOMB.format(text='x' * 1000, root='annotation')),
        ('voc', 'a.xml', _OUTSIDE.format(root='annotation')),
        ('cvat', 'a.xml', _BOMB.format(text='x' * 1000, root='annotations')),
        ('cvat', 'a.xml', _OUTSIDE.format(root='annotations')),
        ('labelme', 'a.json', '[' * 100_000),
        ('labelme', 'a.json', '{"imagePath": "../../../toy.pth", "shapes": [{"label": "x"}]}'),
    ],
)
def test_labels_from_outside_are_data(call, tmp_path, kind, name, text):
    pytest.importorskip('supervision.dataset.formats.labelme')
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / name).write_text(text)
    (tmp_path / 'labels' / 'classes.txt').write_text('x')
    code, said = call([word.replace('LABELS', 'labels') for word in LABEL_READERS[kind]])
    assert code == 3 and name in said
    assert not (tmp_path / 'out.json').exists()
