# ResNet-101 with deformable convolutions in all 30 blocks of the last three stages: the released
# configuration asks for every third one, but its option is never read.
_base_ = ['./sotr_r50_4xb2-300k_coco.py']

pretrained = dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet101_caffe')
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=pretrained,
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
