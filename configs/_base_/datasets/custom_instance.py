# Any data set in COCO format: set `data_root`. It holds train/, val/ and
# annotations/instances_{train,val}.json. The classes are those of the json, ordered by id; to
# choose or order them set `metainfo = dict(classes=(...))` (mapped by name).
_base_ = './coco_instance.py'

data_root = 'data/custom/'
metainfo = dict()

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
    )
)
test_dataloader = val_dataloader
