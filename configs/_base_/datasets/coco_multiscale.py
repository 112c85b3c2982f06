# COCO 2017 as SOLOv2 and CondInst are trained: the short side is drawn from 640 to 800.
_base_ = './coco_instance.py'

scales = [(1333, side) for side in range(640, 801, 32)]
train_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomChoiceResize', scales=scales, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='isda_suite.DropEmptyMasks'),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
