# VisTR (arXiv:2011.14503), the baseline: dense attention over all frames. An epoch has a clip for
# every frame, ending there. 8 GPUs of 32 GB x 1 clip.
_base_ = ['./defvistr_r50-framequery_4xb1-60e_youtube-vis-2019.py']

model = dict(variant='vistr')
train_dataloader = dict(sampler=dict(_delete_=True, type='TrackImgSampler'))
train_cfg = dict(max_epochs=18)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=18, by_epoch=True, milestones=[12], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=8)
