# The protocol behind the published numbers: the original's test command reduces DeepGlobe to 0.8 of
# the size, through a flag that is on unless given. Training is the same.
_base_ = ['./isdnet_1224x1224_80k_deepglobe.py']

test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=(1958, 1958), keep_ratio=True),  # ratio 0.8
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='isda_suite.PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
