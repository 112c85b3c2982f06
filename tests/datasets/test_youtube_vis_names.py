"""The annotation files of the releases are found under each other's names."""

import pytest

from isda_suite.datasets.checks import annotation_path, check_annotations
from isda_suite.datasets.youtube_vis_names import OFFICIAL_NAMES, find_annotation_file
from tests.data.youtube_vis_fake.make import config, make


def _rename(root, name):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / 'annotations/instances_train_sub.json').rename(root / name)


@pytest.mark.parametrize('there', OFFICIAL_NAMES['train'])
@pytest.mark.parametrize('asked', ['train.json', 'train/instances.json'])
def test_a_file_is_found_under_any_official_name_of_its_split(tmp_path, there, asked):
    make(tmp_path)
    _rename(tmp_path, there)
    asks = config(tmp_path, ann_file=asked)
    (report,) = check_annotations(asks)
    assert report.source == str(annotation_path(asks)) == str(tmp_path / there)


def test_the_named_file_comes_first_and_other_splits_never(tmp_path):
    for name in ('train.json', 'val.json', 'annotations/train.json'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_annotation_file(str(tmp_path), 'annotations/train.json') == 'annotations/train.json'
    assert find_annotation_file(str(tmp_path), 'train/instances.json') == 'train.json'
    assert find_annotation_file(str(tmp_path), 'valid.json') == 'val.json'
    assert find_annotation_file(str(tmp_path), 'test.json') == 'test.json'
    assert find_annotation_file(str(tmp_path), 'mine.json') == 'mine.json'


def test_the_error_says_what_was_looked_for(tmp_path):
    make(tmp_path)
    looked = (
        r'no annotation file .*valid\.json .*, nor, in .*valid/instances\.json, .*val_sub\.json'
    )
    with pytest.raises(FileNotFoundError, match=looked):
        check_annotations(config(tmp_path, ann_file='valid.json', test_mode=True))
