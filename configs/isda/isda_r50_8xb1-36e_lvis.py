# LVIS v1: 1203 classes, 300 detections per image, rare classes repeated (`pip install lvis`).
_base_ = ['./isda_r50_8xb1-36e_coco.py']

data_root = 'data/lvis/'
train_set = dict(
    type='LVISV1Dataset',
    data_root=data_root,
    ann_file='annotations/lvis_v1_train.json',
    data_prefix=dict(img=''),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline={{_base_.train_pipeline}},
)
val_set = dict(
    type='LVISV1Dataset',
    data_root=data_root,
    ann_file='annotations/lvis_v1_val.json',
    data_prefix=dict(img=''),
)
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ClassBalancedDataset', oversample_thr=1e-3, dataset=train_set)
)
val_dataloader = dict(dataset=val_set)
test_dataloader = val_dataloader
lvis_val = data_root + 'annotations/lvis_v1_val.json'
val_evaluator = dict(_delete_=True, type='LVISMetric', ann_file=lvis_val, metric='segm')
test_evaluator = val_evaluator
model = dict(bbox_head=dict(num_classes=1203), test_cfg=dict(max_per_img=300))
