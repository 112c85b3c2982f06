import cv2
import numpy as np
import pytest
import torch

from isda_suite.apis.inference import (
    find_images,
    iterate_predictions,
    load_model,
    predict,
)
from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.datasets.errors import DataError
from isda_suite.engine.errors import ConfigError
from tests.apis.tiny_models import DETECTOR, SEGMENTOR, write_config, write_image
from tests.checkpoint.probes import write_probes


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A config, its random weights, and three images."""
    where = tmp_path_factory.mktemp('inference')
    torch.manual_seed(0)
    model = load_model(write_config(where), device='cpu')
    for parameter in model.mask_head.parameters():  # fresh ones find nothing
        torch.nn.init.normal_(parameter, std=0.3)
    meta = {'dataset_meta': {'classes': ('ant', 'bee', 'cat')}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, where / 'tiny.pth')
    for index, size in enumerate([(40, 56), (60, 40), (33, 47)]):
        write_image(where / 'images' / f'{index}.png', *size, seed=index)
    (where / 'images' / 'notes.txt').write_text('no image')
    return where


@pytest.fixture(scope='module')
def model(folder):
    return load_model(folder / 'tiny.py', folder / 'tiny.pth', device='cpu')


def test_a_model_is_loaded_without_fetching_pretrained_weights(model, folder):
    assert not model.training
    assert model.dataset_meta['classes'] == ('ant', 'bee', 'cat')
    saved = torch.load(folder / 'tiny.pth')['state_dict']
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())


def test_masks_have_the_size_of_the_original_images(model, folder):
    samples = predict(model, folder / 'images', progress=False)
    assert [s.ori_shape for s in samples] == [(40, 56), (60, 40), (33, 47)]
    for sample in samples:
        found = sample.pred_instances
        assert len(found) > 0
        assert tuple(found.masks.shape) == (len(found), *sample.ori_shape)
        assert not sample.pred_instances.masks.is_cuda


def test_files_patterns_arrays_and_batches_give_the_same(model, folder):
    files = [folder / 'images' / f'{i}.png' for i in range(3)]
    expected = predict(model, files, progress=False)
    arrays = [cv2.imread(str(f)) for f in files]
    for images, batch_size in [
        (folder / 'images' / '*.png', 1),
        (arrays, 1),
        (str(files[0]), 1),
    ]:
        for got, want in zip(
            predict(model, images, 0.0, batch_size, False), expected, strict=False
        ):
            assert torch.equal(got.pred_instances.scores, want.pred_instances.scores)
            assert torch.equal(got.pred_instances.masks, want.pred_instances.masks)
    same_size = predict(model, [files[0]] * 3, batch_size=2, progress=False)
    assert len(same_size) == 3
    for got in same_size:
        torch.testing.assert_close(got.pred_instances.scores, expected[0].pred_instances.scores)


def test_instances_below_the_threshold_are_dropped(model, folder):
    image = folder / 'images' / '0.png'
    scores = predict(model, image, progress=False)[0].pred_instances.scores
    middle = float(scores.median())
    kept = predict(model, image, score_thr=middle, progress=False)[0].pred_instances.scores
    assert 0 < len(kept) < len(scores)
    assert len(kept) == int((scores >= middle).sum())


def test_a_segmentor_predicts_a_class_map(folder, tmp_path):
    segmentor = load_model(write_config(tmp_path, SEGMENTOR), device='cpu')
    found = list(iterate_predictions(segmentor, folder / 'images' / '0.png', progress=False))
    assert tuple(found[0].sample.pred_sem_seg.data.shape) == (1, 40, 56)


@pytest.mark.parametrize(
    'content, cause',
    [(b'', 'empty'), (b'<html>404</html>', 'text, not an image'), (b'\x89PNG cut', 'cut off')],
)
def test_an_unreadable_image_is_named_with_the_cause(model, tmp_path, content, cause):
    file = tmp_path / 'bad.png'
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf'bad\.png.*{cause}'):
        predict(model, file, progress=False)


def test_a_fault_of_a_later_step_is_not_blamed_on_the_image(tmp_path, folder):
    text = DETECTOR.replace('keep_ratio=True', "keep_ratio=True, interpolation='none'")
    broken = load_model(write_config(tmp_path, text), device='cpu')
    with pytest.raises(KeyError):
        predict(broken, folder / 'images' / '0.png', progress=False)


def test_what_is_no_image_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r'no image .*absent'):
        find_images(tmp_path / 'absent.png')
    with pytest.raises(DataError, match='no file here ends with'):
        find_images(tmp_path)
    with pytest.raises(DataError, match=r'float64 \(2, 2\)'):
        find_images(np.zeros((2, 2)))
    names = [p.name for p in find_images([folder / 'images', folder / 'images' / '1.png'])]
    assert names == ['0.png', '1.png', '2.png', '1.png']


def test_checkpoints_of_other_models_or_with_code_are_refused(folder, tmp_path):
    config = write_config(tmp_path, DETECTOR.replace('num_classes=3', 'num_classes=5'))
    with pytest.raises(CheckpointError, match=r'3 outputs in the checkpoint and 5 in the model'):
        load_model(config, folder / 'tiny.pth', device='cpu')
    trace = tmp_path / 'ran'
    with pytest.raises(UnsafeCheckpointError):
        load_model(folder / 'tiny.py', write_probes(tmp_path, trace)[0], device='cpu')
    assert not trace.exists()


@pytest.mark.parametrize('device, message', [('tpu9', 'none of auto'), ('cuda:99', 'torch sees')])
def test_a_device_that_is_not_there_is_an_error(folder, device, message):
    with pytest.raises(ConfigError, match=message):
        load_model(folder / 'tiny.py', device=device)


def test_a_wrong_argument_in_the_config_is_named(tmp_path):
    text = DETECTOR.replace('stacked_convs=1', 'stacked_conv=1')
    with pytest.raises(ConfigError, match='stacked_conv'):
        load_model(write_config(tmp_path, text), device='cpu')
