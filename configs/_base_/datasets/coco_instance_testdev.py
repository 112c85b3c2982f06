# COCO test-dev has no public labels: results are written as a json for the evaluation server.
_base_ = './coco_instance.py'

test_dataloader = dict(
    dataset=dict(
        ann_file='annotations/image_info_test-dev2017.json', data_prefix=dict(img='test2017/')
    )
)
test_evaluator = dict(
    format_only=True,
    outfile_prefix='work_dirs/coco_testdev/results',
)
