import hashlib
import json

import pytest

from isda_suite.apis import zoo
from isda_suite.apis.downloads.transfer import TransferOptions
from tests.apis.misbehaving_server import running_server
from tests.tools.in_process import call_tool


@pytest.fixture
def tool(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv('ISDA_CACHE_DIR', str(tmp_path))

    def run(*arguments):
        code = call_tool(monkeypatch, 'tools/zoo.py', *arguments)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_table_has_a_line_for_every_model(tool):
    code, text = tool()
    assert code == 0
    lines = text.splitlines()
    assert {line.split()[0] for line in lines[2:-2]} == {one.name for one in zoo.list_models()}
    assert lines[-1] == zoo.NO_WEIGHTS
    assert all(len(line) == len(line.rstrip()) for line in lines)


@pytest.mark.parametrize(
    'words',
    [
        ['--task', 'semantic', '--method', 'isdnet'],
        ['list', '--task', 'semantic', '--method', 'isdnet'],
        ['--task', 'semantic', 'list', '--method', 'isdnet'],
    ],
)
def test_choices_stand_before_or_after_the_word(tool, words):
    _, text = tool(*words)
    assert 'isdnet_r18_sample' in text and 'idip' not in text and 'defvistr' not in text


def test_json_holds_everything(tool):
    models = json.loads(tool('--json')[1])
    assert [one['name'] for one in models] == [one.name for one in zoo.list_models()]
    one = json.loads(tool('show', 'isda_r50_3x_coco', '--json')[1])
    assert one in models
    assert one['claims'][0]['source'] == "original's claim"


def test_a_model_is_shown_with_its_numbers_and_what_is_missing(tool):
    code, text = tool('show', 'isda_sample')
    assert code == 0
    assert 'configs/isda/isda_sample.py' in text
    assert 'mask AP 4.9' in text and 'ours, measured' in text and zoo.NO_WEIGHTS in text


def test_weights_are_fetched_and_their_path_printed(tool, monkeypatch, tmp_path):
    content = b'weights'
    allowed = TransferOptions(allow_http=True, progress=False, num_tries=1)
    monkeypatch.setattr(zoo, 'TransferOptions', lambda: allowed)
    with running_server({'a.pth': content}) as (address, _):
        code, text = tool('fetch', f'{address}/good/a.pth')
        assert code == 0
        (path,) = tmp_path.rglob('a.pth')
        assert text.strip() == str(path) and path.read_bytes() == content
        digest = hashlib.sha256(content).hexdigest()
        assert tool('fetch', f'{address}/good/a.pth', '--sha256', digest)[0] == 0
        code, text = tool('fetch', f'{address}/good/a.pth', '--sha256', 'f' * 64)
        assert code == 2 and 'ffff' in text


def test_the_folder_of_weights_is_printed(tool, tmp_path):
    assert tool('path') == (0, f'{tmp_path / "weights"}\n')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['fetch', 'isda_sample'], 'train or convert'),
        (['show', 'isda_smple'], 'nearest: isda_sample'),
        (['--task', 'vidio'], 'instance, semantic, video'),
        (['open'], 'invalid choice'),
    ],
)
def test_wrong_words_end_with_what_would_be_right(tool, words, message):
    code, text = tool(*words)
    assert code == 2 and message in text and 'Traceback' not in text
