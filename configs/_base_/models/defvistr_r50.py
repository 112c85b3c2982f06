# DefVisTR with ResNet-50 as released (arXiv:2203.06318): 8 slots of 20 instance tokens, clips of 36
# frames. The sizes of the transformer are its defaults, written out.
model = dict(
    type='isda_suite.DefVisTR',
    variant='instance_token',
    num_frames=36,
    num_instances=8,
    num_queries=36,  # one for each frame, in every slot
    query_layout='instance_major',  # 'interleaved': the order of the released program
    data_preprocessor=dict(
        type='TrackDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=1,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    transformer=dict(
        in_channels=2048,
        embed_dims=384,
        num_heads=8,
        num_points=6,
        feedforward_channels=2048,
        encoder_layers=6,
        decoder_layers=6,
        tokens_per_instance=20,
        dropout=0.1,
        encoder_cp=True,  # layers are computed again in the backward pass: time for memory
        decoder_cp=True,
    ),
    head=dict(
        type='isda_suite.DefVisTRHead',
        num_classes=40,
        mask_branch=dict(in_channels=(256, 512, 1024), num_groups=8, num_clip_groups=4),
        loss=dict(cls=1.0, bbox=5.0, giou=2.0, mask=1.0, dice=1.0, no_object=0.1),
    ),
    train_cfg=dict(
        assigner=dict(
            type='isda_suite.SequenceHungarianAssigner',
            cost_class=1.0,
            cost_bbox=5.0,
            cost_iou=2.0,
        )
    ),
    test_cfg=dict(mask_thr=0.5, null_score=0.001, drop_class_zero=True),
)
