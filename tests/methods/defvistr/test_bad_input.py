"""What is special about DefVisTR's input: options, clip lengths, clips without objects."""

import json

import pytest

from isda_suite.datasets.sample_video import write_sample_videos
from isda_suite.resources import resource_root
from tests.methods.rank_weights import assert_only_the_first_rank_had_targets, train_on_two_ranks
from tests.tools.in_process import call_tool

CONFIG = resource_root() / 'configs/defvistr/defvistr_sample.py'
TEXT = """
_base_ = [{base!r}]
model = dict(
    num_instances=3, backbone=dict(base_channels=8, norm_eval=True),
    transformer=dict(in_channels=64, embed_dims=96, feedforward_channels=32, encoder_layers=1,
                     decoder_layers=2, tokens_per_instance=2),
    head=dict(mask_branch=dict(in_channels=(8, 16, 32), num_groups=2, num_clip_groups=1)))
train_cfg = dict(max_iters=2, val_interval=9)
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
"""
EMPTY_RANK = """
_base_ = [{config!r}]
custom_imports = dict(imports=['isda_suite', 'tests.methods.rank_weights'],
                      allow_failed_imports=False)
default_hooks = dict(weights=dict(type='RankWeights', folder={folder!r}))
train_cfg = dict(max_iters=3)
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file={ann_file!r}, filter_cfg=dict(filter_empty_gt=False)))
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('videos') / 'sample'
    return write_sample_videos(root, num_train=4, num_val=1, progress=False)


@pytest.fixture(scope='module')
def config(data, tmp_path_factory):
    file = tmp_path_factory.mktemp('config') / 'defvistr_tiny.py'
    file.write_text(TEXT.format(base=str(CONFIG), data=f'{data}/'))
    return file


@pytest.fixture
def train(config, tmp_path, monkeypatch, capsys):
    """Call the tool with changes; return its exit code and what it said."""

    def run(*options):
        arguments = [config, '--work-dir', tmp_path / 'w', '--cfg-options', *options]
        code = call_tool(monkeypatch, 'tools/train.py', *arguments)
        return code, ''.join(capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ('option', 'remedy'),
    [
        ('model.variant=tokens', 'variant: expected one of'),
        ('model.query_layout=scrambled', 'query_layout: expected one of'),
        ('model.num_queries=9', 'has a table of num_frames = 8 queries, got 9'),
        ('model.variant=vistr', 'has a table of num_frames * num_instances = 24 queries, got 8'),
        ('model.transformer.embed_dims=100', 'transformer.embed_dims'),
        ('+model.transformer.layers=3', 'transformer: unknown layers'),
        ('+model.head.loss.giuo=1.0', 'head.loss: unknown giuo'),
        ('+model.test_cfg.overlp=2', 'test_cfg: unknown overlp'),
        ('model.head.num_classes=7', 'num_classes=7, but the data set has 4 classes'),
        ('train_dataloader.dataset.pipeline.0.num_frames=6', 'expected clips (B, 8, 3, H, W)'),
    ],
)
def test_a_wrong_option_ends_with_code_2(train, option, remedy):
    code, said = train(option)
    assert code == 2, said
    assert remedy in said


def _with_tracks_of(data, tmp_path, kept):
    """Write annotations in which only the videos with an index in ``kept`` have tracks."""
    content = json.loads((data / 'train.json').read_text())
    videos = {video['id'] for index, video in enumerate(content['videos']) if index in kept}
    content['annotations'] = [a for a in content['annotations'] if a['video_id'] in videos]
    assert bool(content['annotations']) == bool(kept)
    path = tmp_path / 'thinned.json'
    path.write_text(json.dumps(content))
    return path


def test_clips_without_objects_train(train, data, tmp_path):
    path = _with_tracks_of(data, tmp_path, kept=[])
    dataset = 'train_dataloader.dataset'
    code, said = train(f'{dataset}.ann_file={path}', f'{dataset}.filter_cfg.filter_empty_gt=False')
    assert code == 0, said


@pytest.mark.ranks
def test_a_rank_without_objects_finishes_and_both_stay_equal(config, data, tmp_path):
    path = _with_tracks_of(data, tmp_path, kept=[0, 2])
    wrapper = tmp_path / 'ranks.py'
    wrapper.write_text(
        EMPTY_RANK.format(config=str(config), folder=str(tmp_path), ann_file=str(path))
    )
    _, ranks = train_on_two_ranks(wrapper, tmp_path)
    parts = ('backbone', 'input_proj', 'instance_tokens', 'encoder', 'decoder', 'head')
    assert_only_the_first_rank_had_targets(*ranks, parts)
