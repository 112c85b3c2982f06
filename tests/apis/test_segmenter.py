"""The one inference API: models, images in every form, batches, streams, faults."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import isda_suite
from isda_suite import InstanceResult, Segmenter, SemanticResult
from isda_suite.apis.large_images.tiled_segmenter import SegmentSettings
from isda_suite.apis.model import load_model
from isda_suite.checkpoint.errors import CheckpointError
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from isda_suite.resources import resource_root
from tests.apis.tiny_models import DETECTOR, SEGMENTOR, write_config, write_image

CONFIG = resource_root() / 'configs' / 'isda' / 'isda_r50_3x_coco.py'
SIZES = [(40, 56), (60, 40), (33, 47)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A config, weights that find something, three images and a note."""
    where = tmp_path_factory.mktemp('segmenter')
    torch.manual_seed(0)
    model = load_model(write_config(where), device='cpu')
    for parameter in model.mask_head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    meta = {'dataset_meta': {'classes': ('fox', 'owl', 'yak')}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, where / 'named.pth')
    torch.save({'state_dict': model.state_dict()}, where / 'plain.pth')
    for index, size in enumerate(SIZES):
        write_image(where / 'images' / f'{index}.png', *size, seed=index)
    (where / 'images' / 'notes.txt').write_text('no image')
    return where


@pytest.fixture(scope='module')
def segmenter(folder):
    return Segmenter(folder / 'tiny.py', folder / 'named.pth', device='cpu', score_thr=0.0)


@pytest.fixture(scope='module')
def semantic(folder):
    torch.manual_seed(0)
    return Segmenter(write_config(folder, SEGMENTOR, 'seg.py'), 'random', device='cpu')


def same(found, expected):
    assert len(expected) and np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.masks, expected.masks)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-5)


def test_it_is_a_public_name_and_knows_itself(segmenter, semantic):
    assert isda_suite.Segmenter is Segmenter and 'Segmenter' in isda_suite.__all__
    assert (segmenter.name, segmenter.task) == ('tiny', 'instance')
    assert (semantic.name, semantic.task) == ('seg', 'semantic')
    assert segmenter.device == torch.device('cpu') and not segmenter.model.training


def test_classes_are_those_of_the_checkpoint_or_of_the_config(segmenter, folder):
    assert segmenter.classes == ('fox', 'owl', 'yak')
    plain = Segmenter(folder / 'tiny.py', folder / 'plain.pth', device='cpu')
    assert plain.classes == ('ant', 'bee', 'cat')


def test_a_model_is_a_path_a_config_or_a_network(segmenter, folder):
    image = folder / 'images' / '0.png'
    expected = segmenter(image)
    cfg = Config.fromfile(folder / 'tiny.py')
    same(Segmenter(cfg, folder / 'named.pth', device='cpu', score_thr=0.0)(image), expected)
    same(Segmenter(segmenter.model, score_thr=0.0)(image), expected)
    fewer = {'model.test_cfg.max_per_img': 2}
    few = Segmenter(cfg, folder / 'named.pth', cfg_options=fewer, device='cpu', score_thr=0.0)
    assert len(few(image)) == 2 and cfg.model.test_cfg.max_per_img == 10


def test_a_shipped_name_is_enough_for_the_configuration():
    segmenter = Segmenter('isda_sample', 'random', device='cpu')
    assert segmenter.name == 'isda_sample' and 'disk' in segmenter.classes


@pytest.mark.parametrize(
    'make, error, said',
    [
        (lambda f: Segmenter('isda_sampel', 'random'), ConfigError, 'nearest.*isda_sample'),
        (lambda f: Segmenter('isda_r50_3x_coco'), CheckpointError, 'no weights published'),
        (lambda f: Segmenter(Path(os.path.relpath(CONFIG))), CheckpointError, 'no weights'),
        (lambda f: Segmenter(f / 'tiny.py'), ConfigError, "no weights given.*'random'"),
        (lambda f: Segmenter(f / 'tiny.py', f / 'absent.pth'), FileNotFoundError, 'absent.pth'),
        (lambda f: Segmenter(f / 'tiny.py', 'random', device='tpu9'), ConfigError, 'none of auto'),
        (lambda f: Segmenter(f / 'tiny.py', 'random', batch_size=0), ConfigError, 'batch_size'),
        (lambda f: Segmenter(f / 'tiny.py', 'random', score_thr=2), ConfigError, 'score_thr'),
        (lambda f: Segmenter(f / 'tiny.py', 'random', cfg_options={'modle.x': 1}), ConfigError,
         'modle'),
        (lambda f: Segmenter(torch.nn.Linear(1, 1)), ConfigError, 'no cfg'),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_way_out(folder, make, error, said):
    with pytest.raises(error, match=said):
        make(folder)


def test_one_image_gives_one_result_and_several_a_list(segmenter, folder):
    images = folder / 'images'
    one = segmenter(images / '0.png')
    assert isinstance(one, InstanceResult) and one.image_size == (40, 56)
    for several in (images, str(images / '*.png'), [images / f'{i}.png' for i in range(3)]):
        results = segmenter(several)
        assert [result.name for result in results] == ['0', '1', '2']
        assert [result.image_size for result in results] == SIZES
        assert [result.masks.shape[1:] for result in results] == SIZES
        same(results[0], one)
    assert [r.name for r in segmenter([images / '2.png'])] == ['2'] and segmenter([]) == []


def test_files_arrays_pil_images_and_addresses_give_the_same(segmenter, folder):
    path = folder / 'images' / '1.png'
    expected = segmenter(path)
    pil = Image.open(path)
    for given in (str(path), cv2.imread(str(path)), pil, path.as_uri(), pil.convert('RGBA')):
        found = segmenter(given)
        same(found, expected)
        assert np.array_equal(found.image(), np.asarray(pil))


def test_grey_and_deep_pil_images_are_seen_as_their_files_are(segmenter, folder, tmp_path):
    grey = cv2.imread(str(folder / 'images' / '0.png'), cv2.IMREAD_GRAYSCALE)
    for name, pixels in (('grey.png', grey), ('deep.png', grey.astype(np.uint16) * 256 + 77)):
        cv2.imwrite(str(tmp_path / name), pixels)
        same(segmenter(Image.open(tmp_path / name)), segmenter(tmp_path / name))
    with pytest.raises(DataError, match="mode 'F' has values of 32 bits"):
        segmenter(Image.fromarray(grey.astype(np.float32)))


def test_rotation_tags_are_obeyed_as_the_loader_of_the_config_does(segmenter, folder, tmp_path):
    plain = Image.open(folder / 'images' / '0.png')
    tags = plain.getexif()
    tags[0x0112] = 6  # a quarter turn
    plain.save(tmp_path / 'turned.jpg', exif=tags)
    turned = segmenter(tmp_path / 'turned.jpg')
    assert turned.image_size == (56, 40)  # this config loads with mmcv, which turns
    assert turned.image().shape == (56, 40, 3) and turned.plot().shape[0] > turned.plot().shape[1]
    assert segmenter(Image.open(tmp_path / 'turned.jpg')).image_size == (40, 56)


@pytest.mark.parametrize('batch_size', [2, 4])
def test_batches_of_different_sizes_give_what_single_images_give(segmenter, folder, batch_size):
    files = [folder / 'images' / f'{i}.png' for i in (0, 1, 0, 2, 2)]
    expected = [segmenter(file) for file in files]
    batched = Segmenter(segmenter.model, batch_size=batch_size, score_thr=0.0)
    for found, want in zip(batched(files), expected, strict=True):
        same(found, want)
    names = [result.name for result in batched(files)]
    assert names == ['0', '1', '2_0', '2', '4_2']  # files of results must not replace each other


def test_a_stream_of_a_generator_holds_one_batch(segmenter):
    given, passes = [], []

    def images():
        for seed in range(5):
            given.append(seed)
            yield np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)

    batched = Segmenter(segmenter.model, batch_size=2, score_thr=0.0)
    for result in batched.stream(images()):
        passes.append((result.name, len(given)))
    assert passes == [(f'image_{i}', min(2 * (i // 2) + 2, 5)) for i in range(5)]


def test_a_bar_is_shown_if_asked_for(segmenter, folder, capsys):
    segmenter(folder / 'images')
    assert '3/3' not in capsys.readouterr().err
    list(segmenter.stream(folder / 'images', progress=True))
    assert '3/3' in capsys.readouterr().err


def test_the_threshold_drops_what_scores_below(segmenter, folder):
    image = folder / 'images' / '0.png'
    everything = segmenter(image)
    middle = float(np.median(everything.scores))
    kept = Segmenter(segmenter.model, score_thr=middle)(image)
    assert 0 < len(kept) < len(everything)
    same(kept, everything.above(middle))
    assert (np.diff(everything.scores) <= 0).all()
    assert len(Segmenter(segmenter.model, score_thr=1.0)(image)) == 0


@pytest.mark.parametrize(
    'given, said',
    [
        ('absent.png', r'no image absent\.png'),
        ('absent/*.png', 'no file here ends with'),
        ('ftp://host/a.png', 'addresses begin with https'),
        ('file://host/a.png', "the machine 'host'"),
        (np.zeros((4, 4)), r'float64 \(4, 4\)'),
        (np.zeros((4, 4, 3), np.float32), r'float32 \(4, 4, 3\)'),
        (np.zeros((3, 4, 4), np.uint8), r'uint8 \(3, 4, 4\)'),
        (np.zeros((0, 4, 3), np.uint8), r'uint8 \(0, 4, 3\)'),
        (None, 'expected a path.*got NoneType'),
        ([3.5], 'expected a path.*got float'),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused(segmenter, given, said):
    with pytest.raises(DataError, match=said):
        segmenter(given)


def test_an_empty_folder_is_an_error_before_anything_is_predicted(segmenter, folder, tmp_path):
    with pytest.raises(DataError, match='no file here ends with'):
        segmenter.stream([folder / 'images' / '0.png', tmp_path])


def test_a_broken_image_is_named_or_skipped(
    segmenter,
    folder,
    tmp_path,
):
    cut = write_image(tmp_path / 'cut.png')
    cut.write_bytes(cut.read_bytes()[:60])
    files = [folder / 'images' / '0.png', cut, folder / 'images' / '2.png']
    stream = segmenter.stream(files)
    assert next(stream).name == '0'
    with pytest.raises(DataError, match=r'cut\.png: its 60 bytes cannot be decoded'):
        next(stream)
    found = segmenter(files, bad_images='skip')
    assert [result.name for result in found] == ['0', '2']
    with pytest.raises(ConfigError, match='bad_images must be one of'):
        segmenter(files, bad_images='ignore')


def test_a_segmentor_gives_a_class_map(semantic, folder):
    result = semantic(folder / 'images' / '0.png')
    assert isinstance(result, SemanticResult) and result.class_map.shape == (40, 56)
    assert result.class_map.dtype == np.uint8 and result.palette == [[0, 99, 0], [0, 0, 99]]
    assert np.array_equal(result.masks.argmax(0), result.class_map - result.labels.min())
    results = semantic(folder / 'images')
    assert [r.class_map.shape for r in results] == SIZES


def test_a_huge_picture_goes_in_tiles_if_they_are_asked_for(semantic, tmp_path):
    file = write_image(tmp_path / 'wide.png', 80, 1500)
    settings = SegmentSettings(tile=128, overlap=64)
    in_tiles = Segmenter(semantic.model, tiles=settings)
    passes = []
    handle = semantic.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    result = in_tiles(file)
    handle.remove()
    assert result.class_map.shape == (80, 1500) and len(passes) > 15
    assert np.array_equal(result.class_map, in_tiles(cv2.imread(str(file))).class_map)


def test_detectors_without_masks_give_boxes(folder):
    text = DETECTOR.split('    mask_head=dict(')[0].replace("type='SOLO'", "type='FCOS'")
    text += """    bbox_head=dict(
        type='FCOSHead', num_classes=3, in_channels=16, stacked_convs=1, feat_channels=16,
        strides=[4, 8, 16, 32, 64], norm_cfg=dict(type='GN', num_groups=4)),
    test_cfg=dict(nms_pre=50, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=5))
""" + DETECTOR[DETECTOR.index('pipeline = ') :].replace(', with_mask=True', '')
    boxes = Segmenter(write_config(folder, text, 'boxes.py'), 'random', device='cpu', score_thr=0)
    result = boxes(folder / 'images' / '0.png')
    assert len(result) == 5 and not result.has_masks and result.plot().ndim == 3
