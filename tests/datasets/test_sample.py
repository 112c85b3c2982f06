"""The generated sample: same bytes, stated statistics, valid annotations."""

import hashlib
import json
from collections import Counter

import cv2
import numpy as np
import pytest

from isda_suite.datasets.checks import check_annotations
from isda_suite.datasets.sample import (
    scene_of,
    write_sample_coco,
    write_sample_semantic,
)
from isda_suite.datasets.sample_folder import STAMP_NAME
from isda_suite.datasets.scene import CLASSES, SceneStatistics
from isda_suite.datasets.scene_rendering import random_scene, render


def _hashes(root):
    return {
        str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    return write_sample_coco(
        tmp_path_factory.mktemp('sample') / 'coco', num_train=6, num_val=3, progress=False
    )


def test_the_same_seed_gives_the_same_bytes(sample, tmp_path):
    again = write_sample_coco(tmp_path / 'again', num_train=6, num_val=3, progress=False)
    assert _hashes(again) == _hashes(sample)
    other = write_sample_coco(tmp_path / 'o', num_train=6, num_val=3, seed=1, progress=False)
    assert not set(_hashes(other).values()) & set(_hashes(sample).values())


def test_the_number_of_training_images_changes_no_other_image(sample, tmp_path):
    more = write_sample_coco(tmp_path / 'more', num_train=7, num_val=3, progress=False)
    known, found = _hashes(sample), _hashes(more)
    same = [name for name in known if name.endswith('.jpg') or 'instances_val' in name]
    assert all(known[name] == found[name] for name in same)


def test_a_written_sample_is_left_alone_and_an_incomplete_one_repaired(tmp_path):
    root = write_sample_coco(tmp_path / 'coco', num_train=2, num_val=1, progress=False)
    before = (root / STAMP_NAME).stat().st_mtime_ns
    write_sample_coco(root, num_train=2, num_val=1, progress=False)
    assert (root / STAMP_NAME).stat().st_mtime_ns == before
    (root / 'val' / '000000.jpg').unlink()
    write_sample_coco(root, num_train=2, num_val=1, progress=False)
    assert (root / 'val' / '000000.jpg').is_file()
    write_sample_coco(root, num_train=1, num_val=1, progress=False)
    assert len(list((root / 'train').iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['coco']


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='was not written by the sample generator'):
        write_sample_coco(tmp_path, num_train=1, num_val=1, progress=False)
    assert (tmp_path / 'mine.txt').read_text() == 'mine'


def test_label_images_show_the_classes_of_the_same_scenes(sample, tmp_path):
    root = write_sample_semantic(tmp_path / 'sem', num_train=2, num_val=1, progress=False)
    for name in ('000000', '000001'):
        image = (root / 'images' / 'train' / f'{name}.jpg').read_bytes()
        assert image == (sample / 'train' / f'{name}.jpg').read_bytes()
    label = cv2.imread(str(root / 'labels' / 'train' / '000001.png'), cv2.IMREAD_UNCHANGED)
    scene = scene_of(0, 'train', 1)
    assert label.shape == scene.size_hw and label.dtype == np.uint8
    for item, mask in zip(scene.objects, render(scene).masks, strict=True):
        assert (label[mask] == item.label + 1).all()
    assert (label[~render(scene).masks.any(axis=0)] == 0).all()
    before = (root / STAMP_NAME).stat().st_mtime_ns
    write_sample_semantic(root, num_train=2, num_val=1, progress=False)
    assert (root / STAMP_NAME).stat().st_mtime_ns == before
    (root / 'labels' / 'val' / '000000.png').unlink()
    write_sample_semantic(root, num_train=2, num_val=1, progress=False)
    assert (root / 'labels' / 'val' / '000000.png').is_file()


def test_the_annotations_pass_our_own_checks(sample):
    for split in ('train', 'val'):
        (report,) = check_annotations(
            {
                'type': 'isda_suite.CocoInstanceDataset',
                'data_root': str(sample),
                'ann_file': f'annotations/instances_{split}.json',
                'data_prefix': {'img': f'{split}/'},
                'metainfo': {'classes': CLASSES},
            }
        )
        assert not report.findings
    content = json.loads((sample / 'annotations' / 'instances_val.json').read_text())
    assert content['licenses'][0]['name'] == 'CC0 1.0'


def test_the_default_scenes_have_the_documented_statistics():
    """The table in the docstring of scene.py, held to over the whole default data set."""
    counts, labels, textures, areas = [], Counter(), {}, []
    hidden = cut = total = 0
    for split, number in (('train', 240), ('val', 60)):
        for index in range(0, number, 2):
            scene = scene_of(0, split, index)
            drawn = render(scene)
            counts.append(len(scene.objects))
            visible = drawn.masks.sum(axis=(1, 2))
            areas += visible.tolist()
            hidden += int((visible < 0.98 * drawn.inside).sum())
            cut += int((drawn.inside < 0.97 * drawn.full - 3).sum())
            total += len(visible)
            assert (visible >= 0.4 * drawn.full).all()
            for item in scene.objects:
                labels[item.shape] += 1
                textures.setdefault(item.texture.kind, Counter())[item.shape] += 1
    assert set(counts) == {2, 3, 4, 5, 6, 7}
    assert 4.1 < np.mean(counts) < 4.9
    assert 0.17 < hidden / total < 0.28
    assert 0.20 < cut / total < 0.32
    assert 380 < np.median(areas) < 540
    assert all(0.16 < labels[name] / total < 0.25 for name in CLASSES)
    assert all(set(shapes) == set(CLASSES) for shapes in textures.values())


def test_rings_have_holes_and_masks_do_not_overlap():
    found = 0
    for index in range(20):
        scene = scene_of(0, 'train', index)
        drawn = render(scene)
        assert (drawn.masks.sum(axis=0) <= 1).all()
        for item, mask in zip(scene.objects, drawn.masks, strict=True):
            x, y = (round(value) for value in item.center_xy)
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if item.shape == 'ring' and inside:
                found += 1
                assert not mask[y, x]
    assert found > 5


def test_objects_move_with_their_texture():
    scene = random_scene(np.random.default_rng(0), SceneStatistics(speed=6.0, spin=0.2))
    first, later = render(scene, 0.0), render(scene, 1.0)
    assert (first.masks != later.masks).any(axis=(1, 2)).all()
    assert scene.objects[0].center_at(2.0) != scene.objects[0].center_xy
    assert np.array_equal(render(scene, 1.0).image, later.image)


def test_statistics_that_leave_no_room_are_refused():
    crowded = SceneStatistics(num_objects=(60, 60), diameter=(80.0, 90.0))
    with pytest.raises(ValueError, match='of at least 60 objects found room'):
        random_scene(np.random.default_rng(0), crowded)
