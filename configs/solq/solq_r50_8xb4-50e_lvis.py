# LVIS v1: 1203 classes, 300 detections per image, rare classes repeated (`pip install lvis`).
# Padded to whole cells of the coarsest map, so that IUQ trains it by the same recipe.
_base_ = ['./solq_r50_8xb4-50e_coco.py']

data_root = 'data/lvis/'
val_ann = 'annotations/lvis_v1_val.json'
lvis = dict(type='isda_suite.LVISInstanceDataset', data_root=data_root, data_prefix=dict(img=''))
train_set = dict(
    ann_file='annotations/lvis_v1_train.json',
    filter_cfg=dict(filter_empty_gt=False, min_size=1),
    pipeline={{_base_.train_pipeline}},
    **lvis,
)
balanced = dict(type='ClassBalancedDataset', oversample_thr=1e-3, dataset=train_set)
train_dataloader = dict(dataset=dict(_delete_=True, **balanced))
val_dataloader = dict(dataset=dict(ann_file=val_ann, **lvis))
test_dataloader = val_dataloader
metric = dict(type='LVISMetric', ann_file=data_root + val_ann, metric=['segm', 'bbox'])
val_evaluator = dict(_delete_=True, **metric)
test_evaluator = val_evaluator
head = dict(bbox_head=dict(num_classes=1203), test_cfg=dict(max_per_img=300))
model = dict(data_preprocessor=dict(pad_size_divisor=64), **head)
