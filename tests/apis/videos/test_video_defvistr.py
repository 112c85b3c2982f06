"""Streaming gives what evaluating gives: the same model, frames, clips and links."""

import json

import pytest
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from isda_suite.apis.video import predict_video
from isda_suite.datasets.sample_video import write_sample_videos
from tests.apis.tiny_defvistr import load_defvistr, write_defvistr_config


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos') / 'data'
    return write_sample_videos(folder, num_train=1, num_val=2, progress=False)


def evaluated(model):
    """Return the tracks of each video as tools/test.py gets them."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(model.cfg.test_dataloader)
    samples = [sample for data in loader for sample in model.test_step(data)]
    return {one.video_id: one.pred_tracks for one in samples if one.video_done}


@pytest.mark.parametrize('overlap', [1, 2])
def test_streaming_gives_the_tracks_that_evaluating_gives(root, tmp_path, overlap):
    model = load_defvistr(write_defvistr_config(tmp_path, root, overlap))
    tracks = evaluated(model)
    assert len(tracks) == 2
    for video in json.loads((root / 'valid.json').read_text())['videos']:
        folder = (root / 'valid/JPEGImages' / video['file_names'][0]).parent
        prediction = predict_video(model, folder, progress=False)
        frames = list(prediction)
        assert len(frames) == len(video['file_names']) > 3
        expected, found = tracks[video['id']], prediction.tracks
        assert len(expected) > 0
        assert found.masks == expected.masks
        assert found.scores.tolist() == expected.scores.tolist()
        assert found.labels.tolist() == expected.labels.tolist()
        shown = {(t, frame.number) for frame in frames for t in frame.ids}
        assert shown == {
            (track, number)
            for track, masks in zip(found.ids.tolist(), found.masks, strict=True)
            for number, mask in enumerate(masks)
            if mask is not None and len(mask['counts']) and not _is_empty(mask)
        }


def _is_empty(mask):
    from pycocotools import mask as coco_mask

    return coco_mask.area(mask) == 0


def test_a_video_of_one_clip_gives_what_the_clip_gives(root, tmp_path):
    model = load_defvistr(write_defvistr_config(tmp_path, root))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    data = dataset[0]
    batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
    [alone] = model.predict_clips(**model.data_preprocessor(batch, False))
    images = sorted((root / 'valid/JPEGImages').glob('*/*'))[:3]
    for name, image in zip(data['data_samples'].file_names, images, strict=True):
        assert str(image).endswith(name)
    prediction = predict_video(model, _read(images), progress=False)
    assert len(list(prediction)) == 3
    assert prediction.tracks.masks == alone.masks
    assert prediction.tracks.scores.tolist() == alone.scores.tolist()


def _read(files):
    from isda_suite.datasets.image_file import read_image

    return [read_image(str(file)) for file in files]
