# The protocol behind the published numbers: Inria aerial images at 0.8 of the size, 4000 x 4000.
_base_ = ['./isdnet_r18_4xb1-40k_inria.py']

test_pipeline = [
    dict(type='isda_suite.LoadImage'),
    dict(type='Resize', scale=(4000, 4000), keep_ratio=True),  # ratio 0.8
    dict(type='isda_suite.LoadSegLabels'),
    dict(type='isda_suite.PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
