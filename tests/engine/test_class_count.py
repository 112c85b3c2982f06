import json

import pytest
from mmengine import Config

from isda_suite.datasets import InriaAerialDataset
from isda_suite.datasets.errors import DataError
from isda_suite.engine.class_count import settle_class_count
from isda_suite.engine.config_file import apply_options
from isda_suite.engine.errors import ConfigError
from tests.data.youtube_vis_fake import make as youtube_vis_fake


def config(root, **dataset):
    return Config(
        dict(
            data_root=f'{root}/',
            model=dict(head=dict(num_classes='from_data'), other=[dict(num_classes=3)]),
            train_dataloader=dict(
                dataset=dict(
                    type='RepeatDataset',
                    dataset=dict(data_root=f'{root}/', ann_file='a.json', **dataset),
                )
            ),
            val_evaluator=[dict(type='M', ann_file=f'{root}/a.json')],
        )
    )


def write_categories(folder, names):
    folder.mkdir(exist_ok=True)
    content = {
        'images': [],
        'categories': [{'id': i, 'name': name} for i, name in enumerate(names)],
    }
    (folder / 'a.json').write_text(json.dumps(content))


def test_classes_are_counted_in_the_json(tmp_path):
    write_categories(tmp_path, 'abcd')
    cfg = config(tmp_path)
    settle_class_count(cfg, ['val_dataloader', 'train_dataloader'])
    assert cfg.model.head.num_classes == 4
    assert cfg.model.other[0].num_classes == 3


def test_classes_are_counted_in_the_json_of_videos_under_any_official_name(tmp_path):
    youtube_vis_fake.make(tmp_path)
    cfg = config(tmp_path)
    data = youtube_vis_fake.config(tmp_path, ann_file='train.json', metainfo=None)
    cfg.train_dataloader.dataset = data
    settle_class_count(cfg, ['train_dataloader'])
    assert cfg.model.head.num_classes == 2


def test_named_classes_win_over_the_json(tmp_path):
    write_categories(tmp_path, 'abcd')
    cfg = config(tmp_path, metainfo=dict(classes=('a', 'b')))
    settle_class_count(cfg, ['train_dataloader'])
    assert cfg.model.head.num_classes == 2


@pytest.mark.parametrize(
    ('kind', 'count'),
    [
        ('isda_suite.DeepGlobeDataset', 7),
        ('isda_suite.InriaAerialDataset', 2),
        ('CityscapesDataset', 19),
        ('mmseg.CityscapesDataset', 19),
        (InriaAerialDataset, 2),
    ],
)
@pytest.mark.parametrize('names', [{}, {'ann_file': 'train.txt'}], ids=['folders', 'list'])
def test_data_that_know_their_classes_are_asked(kind, count, names):
    dataset = dict(type=kind, data_root='absent/', **names)
    model = dict(head=dict(num_classes='from_data'))
    cfg = Config(dict(model=model, train_dataloader=dict(dataset=dataset), default_scope='mmseg'))
    settle_class_count(cfg, ['train_dataloader'])
    assert cfg.model.head.num_classes == count


@pytest.mark.parametrize('kind', ['isda_suite.SemanticDataset', 'AbsentDataset'])
def test_data_of_a_type_without_classes_say_so(kind):
    model = dict(head=dict(num_classes='from_data'))
    cfg = Config(dict(model=model, train_dataloader=dict(dataset=dict(type=kind))))
    with pytest.raises(ConfigError, match='a type of data that has its own classes'):
        settle_class_count(cfg, ['train_dataloader'])


def test_data_without_classes_say_so(tmp_path):
    write_categories(tmp_path, '')
    with pytest.raises(ConfigError, match='write the number instead'):
        settle_class_count(config(tmp_path), ['train_dataloader'])


def test_a_missing_or_damaged_annotation_file_is_named(tmp_path):
    cfg = config(tmp_path)
    with pytest.raises(
        ConfigError, match=r"num_classes='from_data'.*a\.json, which does not exist"
    ):
        settle_class_count(cfg, ['train_dataloader'])
    (tmp_path / 'a.json').write_text('{"images": [], "categories": [{"id": 1, "na')
    with pytest.raises(DataError, match=r'a\.json is not a whole json file'):
        settle_class_count(cfg, ['train_dataloader'])
    write_categories(tmp_path, 'aa')
    with pytest.raises(DataError, match=r"category name 'a' stands 2 times"):
        settle_class_count(cfg, ['train_dataloader'])


def test_one_data_root_moves_every_data_set(tmp_path):
    """The variable of the file was copied into the data sets before options are applied."""
    cfg = config(tmp_path / 'old')
    apply_options(cfg, {'data_root': str(tmp_path / 'new')})
    assert cfg.train_dataloader.dataset.dataset.data_root == f'{tmp_path}/new/'
    assert cfg.val_evaluator[0].ann_file == f'{tmp_path}/new/a.json'
