# SOLOv2 R-50 without IUQ on LVIS v1: 1203 classes, rare ones repeated (`pip install lvis`).
_base_ = [
    '../_base_/models/solov2_r50.py',
    '../_base_/datasets/coco_multiscale.py',
    '../_base_/schedules/sgd_36e.py',
    '../_base_/default_runtime.py',
]
default_scope = 'mmdet'
custom_imports = dict(imports=['isda_suite'], allow_failed_imports=False)

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
model = dict(mask_head=dict(num_classes=1203), test_cfg=dict(max_per_img=300))
