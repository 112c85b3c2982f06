# ISDNet with ResNet-18 and STDC1 as published (CVPR 2022), 17.2 million parameters at inference. A
# configuration adds the classes of its data to the three heads, and the size of its crops to the
# data preprocessor.
norm_cfg = dict(type='BN', requires_grad=True)
stdc = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/stdc/stdc1_20220308-5368626c.pth'
)

model = dict(
    type='isda_suite.ISDNet',
    num_levels=2,
    deep_ratio=4,
    deep_sampling='nearest',  # as published; 'pyramid', 'area' and 'bilinear' do not alias
    sr_target='residuals',  # 'image': the picture itself
    data_preprocessor=dict(
        type='isda_suite.SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet18_v1c'),
    ),
    decode_head=dict(
        type='ASPPHead',
        in_channels=512,
        in_index=3,
        channels=128,
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=256,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    ),
    shallow_branch=dict(
        type='isda_suite.ShallowBranch',
        in_channels=6,
        channels=(32, 64, 256, 512),
        norm_cfg=norm_cfg,
        stem_init='tile',  # 'average' keeps the size of the pretrained stem's output
        init_cfg=dict(type='Pretrained', checkpoint=stdc),
    ),
    refine_head=dict(
        type='isda_suite.RefineHead',
        shallow_channels=(256, 512),
        deep_channels=128,
        channels=128,
        num_groups=16,
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=norm_cfg,
        align_corners=False,
        seg_bn_init='paper',  # 'one': the scales of the last normalisation start at 1
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
        loss_recon=dict(type='isda_suite.ReconstructionLoss', loss_weight=0.1),
        loss_distill=dict(
            type='isda_suite.StructureDistillationLoss', loss_weight=1.0, normalise='channels'
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole', keep_logits=False),
)
tta_model = dict(type='isda_suite.ISDNetTTA')
