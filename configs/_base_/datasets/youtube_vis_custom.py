# Any data in the format of YouTube-VIS in one folder: DATA_ROOT/train.json and valid.json, or any
# other official name of them (docs/data_formats.md), frames in train/JPEGImages and
# valid/JPEGImages. The classes are those of the annotation file, so the model takes
# num_classes='from_data'.
_base_ = './youtube_vis_2019.py'

data_root = 'data/custom/'
metainfo = dict(classes=None)

train_dataloader = dict(
    num_workers=2,
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file='train.json'),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file='valid.json'),
)
test_dataloader = val_dataloader
