# Writes <work_dir>/test-dev.segm.json for the COCO server; test-dev has no public labels.
_base_ = ['./isda_r50_3x_coco.py']

test_dataloader = dict(
    dataset=dict(
        ann_file='annotations/image_info_test-dev2017.json', data_prefix=dict(img='test2017/')
    )
)
test_evaluator = dict(format_only=True, outfile_prefix='work_dirs/isda_r50_testdev/test-dev')
