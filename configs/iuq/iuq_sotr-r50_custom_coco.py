# SOTR with IUQ on any data set in COCO format, see ../sotr/sotr_r50_custom_coco.py for `data_root`.
_base_ = ['../sotr/sotr_r50_custom_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
