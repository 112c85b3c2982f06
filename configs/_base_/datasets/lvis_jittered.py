# LVIS v1 (`pip install lvis`) with the jitter of coco_jittered.py: 1203 classes, images with rare
# ones are repeated. The images are those of COCO 2017, beside the annotations or linked there.
_base_ = './coco_jittered.py'

data_root = 'data/lvis/'
val_ann = 'annotations/lvis_v1_val.json'
lvis = dict(type='isda_suite.LVISInstanceDataset', data_root=data_root, data_prefix=dict(img=''))
train_set = dict(
    ann_file='annotations/lvis_v1_train.json',
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline={{_base_.train_pipeline}},
    **lvis,
)
balanced = dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=train_set)
train_dataloader = dict(dataset=dict(_delete_=True, **balanced))
val_dataloader = dict(dataset=dict(ann_file=val_ann, **lvis))
test_dataloader = val_dataloader
metric = dict(type='LVISMetric', ann_file=data_root + val_ann, metric='segm')
val_evaluator = dict(_delete_=True, **metric)
test_evaluator = val_evaluator
