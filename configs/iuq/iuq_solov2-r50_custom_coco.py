# SOLOv2 with a pretrained ResNet-50 and IUQ on any data set in COCO format, as the plain one.
_base_ = ['./iuq_solov2-r50-plain_custom_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
