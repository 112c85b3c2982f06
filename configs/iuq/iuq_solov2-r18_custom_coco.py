# A small SOLOv2 with IUQ on any data set in COCO format, as the plain one beside it.
_base_ = ['./iuq_solov2-r18-plain_custom_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
