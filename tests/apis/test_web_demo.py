"""The web demo over HTTP, as gradio's client sees it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from isda_suite.apis.web_demo.limits import Limits
from isda_suite.apis.web_demo.models import ModelShelf, choose_offers
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from isda_suite.visualization.colours import colour
from tests.apis import tiny_models
from tests.apis.colour_detector import SCORES, SIZE_HW, THINGS, area_of, write_detector, write_scene
from tests.apis.tiny_video_models import VIDEO_MODEL, scene
from tests.apis.video_files import write_video
from tests.tools.in_process import call_tool
from tests.tools.running import ROOT, environment

gradio_client = pytest.importorskip('gradio_client', reason='gradio is not installed')
USUAL = (0.3, 0.5, True, True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('web')


@pytest.fixture(scope='module')
def demo(folder):
    """Serve a detector, a segmentor and a tracker; return a client of a page of its own."""
    from isda_suite.apis.web_demo.server import DemoSettings, open_demo

    config, weights = write_detector(folder)
    segmentor = tiny_models.write_config(folder, tiny_models.SEGMENTOR, 'pixels.py')
    tracker = tiny_models.write_config(folder, VIDEO_MODEL, 'tracks.py')
    settings = DemoSettings(
        models=[str(config), str(segmentor), str(tracker)],
        weights=[str(weights), 'random', 'random'],
        limits=dict(max_megapixels=0.2, max_frames=12),
    )
    with open_demo(settings) as address:
        assert address.startswith('http://127.0.0.1:')
        yield address


@pytest.fixture
def page(demo, tmp_path):
    return gradio_client.Client(
        demo, verbose=False, analytics_enabled=False, download_files=tmp_path / 'downloads'
    )


@pytest.fixture
def picture(folder):
    return write_scene(folder / 'two <things>.png')


def _predict(page, model, file, *look):
    given = None if file is None else gradio_client.handle_file(str(file))
    return page.predict(model, given, *(look or USUAL), api_name='/predict')


def _written(page, *look):
    video, files = page.predict(*(look or USUAL), api_name='/files')
    return video, {Path(file).suffix: Path(file) for file in files}


def test_what_is_found_is_drawn_and_listed(page, picture):
    drawn, sentence, table = _predict(page, 'toy', picture)
    assert sentence == 'toy: 2 instances of 320 x 240 pixels'
    assert table['headers'] == ['class', 'score', 'area (px)', 'area (%)']
    for row, (name, _, _) in zip(table['data'], THINGS, strict=True):
        share = round(100 * area_of(name) / (240 * 320), 2)
        assert row == [name, pytest.approx(SCORES[name], abs=2e-3), area_of(name), share]
    before, after = cv2.imread(str(picture)).astype(float), cv2.imread(drawn)
    after = cv2.resize(after, before.shape[1::-1], interpolation=cv2.INTER_AREA)
    for label, (_, pixel, (left, top, right, bottom)) in enumerate(THINGS):
        tinted = (np.array(pixel) + colour(label)[::-1]) / 2
        inside = after[top + 25 : bottom - 5, left + 5 : right - 5]  # below the writing
        assert np.abs(inside - tinted).mean() < 8
        after[top - 8 : bottom + 8, left - 8 : right + 40] = before[0, 0]
        before[top:bottom, left:right] = before[0, 0]
    assert np.abs(after - before).max() < 30


def test_a_slider_draws_anew_without_the_network(page, picture, monkeypatch):
    from isda_suite.apis.segmenter import Segmenter

    first, _, _ = _predict(page, 'toy', picture)
    monkeypatch.setattr(Segmenter, '__call__', lambda *args: pytest.fail('the network ran'))
    faint, sentence, table, video, files = page.predict(0.9, 0.0, False, False, api_name='/redraw')
    assert [row[0] for row in table['data']] == ['red'] and '1 instance of' in sentence
    assert video is None and files is None  # those of the other look are gone
    assert Path(first).read_bytes() != Path(faint).read_bytes()
    *_, table, _, _ = page.predict(1.0, 0.5, True, True, api_name='/redraw')
    assert table['data'] == []


def test_a_page_that_has_found_nothing_yet_stays_as_it_is(page):
    page.predict(0.9, 0.5, True, True, api_name='/redraw')
    with pytest.raises(gradio_client.exceptions.AppError, match='press Run first'):
        _written(page)


def test_the_files_hold_what_was_found(page, picture, folder):
    _predict(page, 'toy', picture)
    video, files = _written(page, 0.3, 0.8, True, True)
    assert video is None and set(files) == {'.png', '.json', '.geojson', '.zip'}
    assert cv2.imread(str(files['.png'])).shape[:2] >= SIZE_HW
    text = files['.json'].read_text()
    assert str(folder) not in text and 'gradio' not in text
    content = json.loads(text)
    names = {one['id']: one['name'] for one in content['categories']}
    for one, (name, _, (left, top, right, bottom)) in zip(
        content['annotations'], THINGS, strict=True
    ):
        expected = np.zeros(SIZE_HW, bool)
        expected[top:bottom, left:right] = True
        assert names[one['category_id']] == name
        assert (coco_mask.decode(one['segmentation']).astype(bool) == expected).all()
    features = json.loads(files['.geojson'].read_text())['features']
    assert [one['properties']['class'] for one in features] == ['red', 'green']
    with zipfile.ZipFile(files['.zip']) as packed:
        assert {Path(name).suffix for name in packed.namelist()} == {'.png', '.json', '.geojson'}
        assert packed.testzip() is None
    assert len(json.loads(_written(page, 0.9, 0.5, True, True)[1]['.json'].read_text())[
        'annotations'
    ]) == 1  # fmt: skip


def test_classes_of_pixels(page, picture):
    _, sentence, table = _predict(page, 'pixels', picture)
    assert 'of pixels' in sentence
    assert table['headers'] == ['class', 'area (px)', 'area (%)']
    assert sum(row[1] for row in table['data']) == 240 * 320
    _, files = page.predict(*USUAL, api_name='/files')
    names = [Path(file).name for file in files]
    assert sum(name.endswith('.png') for name in names) == 2  # the picture and the class map
    assert not any(name.endswith('.jpg') for name in names)


def test_without_labels_classes_of_pixels_have_no_legend(page, picture):
    shapes = [
        cv2.imread(_predict(page, 'pixels', picture, 0.3, 0.5, True, labels)[0]).shape
        for labels in (False, True)
    ]
    plain, with_legend = shapes
    assert plain[1] == with_legend[1] and plain[0] < with_legend[0]
    assert plain[0] / plain[1] == 240 / 320  # the picture and nothing else


def test_a_video_becomes_tracks_and_a_video(page, tmp_path):
    file = write_video(tmp_path / 'clip.mp4', scene(8))
    sheet, sentence, table = _predict(page, 'tracks', file)
    assert '2 tracks in 8 frames' in sentence and cv2.imread(sheet) is not None
    assert table['headers'] == ['class', 'best score', 'track', 'frames']
    assert sorted(row[0] for row in table['data']) == ['disk', 'square']
    video, files = _written(page)
    assert set(files) == {'.png', '.webm', '.json', '.geojson', '.zip'}
    capture = cv2.VideoCapture(video if isinstance(video, str) else video['video'])
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 8
    assert json.loads(files['.json'].read_text())['videos'][0]['source'] == 'clip.mp4'


def _write_text(folder):
    (folder / 'text.png').write_text('<html>not found</html>')
    return folder / 'text.png'


def _write_cut(folder):
    whole = write_scene(folder / 'cut.png').read_bytes()
    (folder / 'cut.png').write_bytes(whole[: len(whole) // 2])
    return folder / 'cut.png'


def _write_large(folder):
    cv2.imwrite(str(folder / 'large.png'), np.zeros((500, 500, 3), np.uint8))
    return folder / 'large.png'


@pytest.mark.parametrize(
    ('model', 'make', 'message'),
    [
        ('toy', lambda folder: None, 'drop an image or a video first'),
        ('toy', _write_text, 'text.png.*it holds text, not an image'),
        ('toy', _write_cut, 'cut.png.*cannot be decoded'),
        ('toy', _write_large, r'large.png is 500 x 500, 0.2 megapixels.*at most 0.2'),
        ('tracks', lambda f: write_scene(f / 'one.png'), 'this model takes a video'),
        ('toy', lambda f: write_video(f / 'v.mp4', scene(3)), 'this model takes an image'),
        ('tracks', lambda f: write_video(f / 'v.mp4', scene(14)), '14 frames or more.*at most 12'),
    ],
)
def test_what_cannot_be_taken_is_told(page, tmp_path, model, make, message):
    with pytest.raises(gradio_client.exceptions.AppError, match=message) as caught:
        _predict(page, model, make(tmp_path))
    assert '/tmp' not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_an_unforeseen_error_is_told_in_the_terminal(page, picture, monkeypatch, capfd):
    monkeypatch.setattr(ModelShelf, 'take', lambda *args: 1 / 0)
    with pytest.raises(gradio_client.exceptions.AppError, match='the terminal in which') as caught:
        _predict(page, 'toy', picture)
    assert 'division' not in str(caught.value)
    assert 'ZeroDivisionError' in capfd.readouterr().err


def test_models_that_cannot_be_offered(tmp_path, monkeypatch):
    config, weights = write_detector(tmp_path)
    with pytest.raises(ConfigError, match='2 models and 1 weights'):
        choose_offers([str(config)] * 2, [str(weights)])
    with pytest.raises(ConfigError, match='is no model of the zoo: give its --weights'):
        choose_offers([str(config)], [])
    with pytest.raises(CheckpointError, match=r'absent\.pth does not exist'):
        choose_offers([str(config)], ['absent.pth'])
    monkeypatch.setattr('isda_suite.apis.web_demo.models.list_models', lambda: [])
    with pytest.raises(ConfigError, match='no model to show'):
        choose_offers([], [])
    with pytest.raises(ConfigError, match='give each once'):
        ModelShelf(choose_offers([str(config)] * 2, [str(weights)] * 2))


def test_models_of_one_configuration_have_names_of_their_own_and_are_put_back(tmp_path):
    config, weights = write_detector(tmp_path)
    other = weights.with_name('others.pth')
    other.write_bytes(weights.read_bytes())
    shelf = ModelShelf(
        choose_offers([str(config)] * 2, [str(weights), str(other)]), device='cpu', room=1
    )
    first, second = shelf.names
    assert first.startswith('toy (') and first.endswith('colours)') and first != second
    held = shelf.take(first)
    assert shelf.take(first) is held
    shelf.take(second)
    assert shelf.take(first) is not held


def test_limits_of_nothing_are_refused():
    with pytest.raises(ConfigError, match='max_frames must be more than 0, got 0'):
        Limits(max_frames=0)
    with pytest.raises(DataError, match=r'no video|cannot'):
        Limits().check_size(Path('absent.mp4'))


def test_a_taken_port_is_named(tmp_path):
    from isda_suite.apis.web_demo.server import DemoSettings, open_demo

    config, weights = write_detector(tmp_path)
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = DemoSettings(models=[str(config)], weights=[str(weights)], port=port)
        with pytest.raises(ConfigError, match=f'cannot listen on 127.0.0.1:{port}'):
            with open_demo(settings):
                pytest.fail('it listens')


def test_a_signal_ends_the_demo_and_leaves_nothing_of_its_visitors(
    tmp_path, picture, monkeypatch, capsys
):
    from isda_suite.apis.web_demo import server

    open_demo = server.open_demo
    config, weights = write_detector(tmp_path)
    folder = tmp_path / 'files'
    folder.mkdir()
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(folder))
    stored = []

    @contextmanager
    def visited(settings):
        def visit():
            try:
                page = gradio_client.Client(address, verbose=False, download_files=tmp_path)
                _predict(page, 'toy', picture)
                _written(page)
                stored.extend(file.name for file in folder.rglob('*') if file.is_file())
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        with open_demo(settings) as address:
            Thread(target=visit).start()
            yield address

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(server, 'open_demo', visited)
    server.serve(server.DemoSettings(models=[str(config)], weights=[str(weights)]))
    assert 'the demo is at http://127.0.0.1:' in capsys.readouterr().out
    assert {'.png', '.json', '.geojson', '.zip'} <= {Path(name).suffix for name in stored}
    assert list(folder.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_process_ends_well_while_its_model_is_at_work(tmp_path):
    image = tmp_path / 'large.png'
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8))
    words = ['--model', 'idip_r50_2xb8-90k_coco', '--weights', 'random', '--device', 'cpu']
    with subprocess.Popen(
        [sys.executable, ROOT / 'demo/web_demo.py', *words],
        env=environment(GRADIO_TEMP_DIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said = next(line for line in process.stdout if 'the demo is at' in line)
        page = gradio_client.Client(said.split()[4], verbose=False)
        job = page.submit(
            words[1], gradio_client.handle_file(str(image)), *USUAL, api_name='/predict'
        )
        time.sleep(3)
        assert not job.done()
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert not list(tmp_path.glob('isda_suite_demo_*'))


def test_the_command(tmp_path, monkeypatch, capsys):
    config, weights = write_detector(tmp_path)
    right = ('--model', config, '--weights', weights, '--check')
    assert call_tool(monkeypatch, 'demo/web_demo.py', *right) == 0
    assert capsys.readouterr().out.startswith('toy: instance, 2 classes, on c')
    assert call_tool(monkeypatch, 'demo/web_demo.py', '--port', '70000') == 2
    assert call_tool(monkeypatch, 'demo/web_demo.py', '--min-score', '1') == 2
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert call_tool(monkeypatch, 'demo/web_demo.py', *right) == 2
    assert "pip install 'isda_suite[web]'" in capsys.readouterr().err
