# OVIS: occluded videos in the format of YouTube-VIS, some of several hundred frames. The 25 classes
# are those of its annotation files; frames lie in train/VIDEO/, without JPEGImages between.
_base_ = './youtube_vis_2019.py'

data_root = 'data/ovis/'
# None lets the data set take the names from the file.
metainfo = dict(classes=None)

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations_train.json',
        data_prefix=dict(img_path='train'),
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations_valid.json',
        data_prefix=dict(img_path='valid'),
    )
)
test_dataloader = val_dataloader
