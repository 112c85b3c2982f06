"""The local split of a training file: stable, complete, whole or absent."""

import json

import pytest

from isda_suite.apis.videos.hold_out import hold_out
from isda_suite.datasets.checks import check_annotations
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.hold_out import held_out_videos, split_videos
from tests.data.youtube_vis_fake.make import config, content, make
from tests.tools.in_process import call_tool

ANN = 'annotations/instances_train_sub.json'


def test_the_choice_depends_on_ids_seed_and_share_alone():
    ids = list(range(200))
    chosen = held_out_videos(ids, 0.1, 0)
    assert len(chosen) == 20
    assert chosen == held_out_videos(ids[::-1], 0.1, 0)
    assert chosen < held_out_videos(ids, 0.3, 0)
    assert chosen != held_out_videos(ids, 0.1, 1)
    # Stands in files that people have: other videos would make their numbers incomparable.
    assert held_out_videos(list(range(1, 9)), 0.25, 0) == {4, 7}


@pytest.mark.parametrize(('share', 'count'), [(0.001, 1), (0.5, 2), (0.999, 2)])
def test_both_parts_have_a_video(share, count):
    assert len(held_out_videos([1, 2, 3], share, 0)) == count


def test_every_video_and_track_is_in_one_part():
    whole = content()
    parts = split_videos(whole, 0.3, 0)
    for key in ('videos', 'annotations'):
        ids = [[one['id'] for one in part[key]] for part in parts]
        assert sorted([*ids[0], *ids[1]]) == sorted(one['id'] for one in whole[key])
    for part in parts:
        assert part['categories'] == whole['categories']
        videos = {one['id'] for one in part['videos']}
        assert videos and {one['video_id'] for one in part['annotations']} <= videos


def test_both_files_can_be_trained_and_evaluated_on(tmp_path):
    make(tmp_path)
    kept, held_out = hold_out(tmp_path / ANN, 0.3)
    assert kept.name == 'instances_train_sub_kept.json'
    for path, test_mode in ((kept, False), (held_out, True)):
        check_annotations(config(tmp_path, ann_file=str(path), test_mode=test_mode))
    before = kept.read_bytes(), held_out.read_bytes()
    hold_out(tmp_path / ANN, 0.3)
    assert (kept.read_bytes(), held_out.read_bytes()) == before


def test_a_fault_while_writing_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    make(tmp_path)

    def fail(part, file):
        file.write('{')
        raise OSError('full')

    monkeypatch.setattr(json, 'dump', fail)
    with pytest.raises(OSError, match='full'):
        hold_out(tmp_path / ANN, out_dir=tmp_path / 'out')
    assert list((tmp_path / 'out').iterdir()) == []


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda found: found['videos'][0].update(id=2), 'with the same one'),
        (lambda found: found['videos'][0].pop('id'), 'videos without an id'),
        (lambda found: found['videos'].__delitem__(slice(1, None)), 'out of 1 videos'),
        (lambda found: found.pop('annotations'), 'no annotations to evaluate on'),
        (lambda found: found.pop('videos'), '"videos" is missing'),
    ],
)
def test_what_cannot_be_split_is_named(tmp_path, change, message):
    found = content()
    change(found)
    (tmp_path / 'train.json').write_text(json.dumps(found))
    with pytest.raises(DataError, match=message):
        hold_out(tmp_path / 'train.json')


def test_the_tool_writes_beside_the_file_and_refuses_a_wrong_share(tmp_path, monkeypatch, capsys):
    make(tmp_path)
    arguments = (tmp_path / ANN, '--share', '0.3', '--out', tmp_path / 'split')
    assert not call_tool(monkeypatch, 'tools/misc/hold_out.py', *arguments)
    said = capsys.readouterr().out
    assert 'instances_train_sub_kept.json: 2 videos' in said
    assert 'instances_train_sub_held_out.json: 1 videos' in said
    assert call_tool(monkeypatch, 'tools/misc/hold_out.py', tmp_path / ANN, '--share', '2') == 2
    assert '--share must lie between 0 and 1, got 2.0' in capsys.readouterr().err
    assert call_tool(monkeypatch, 'tools/misc/hold_out.py', tmp_path / 'none.json') == 2
