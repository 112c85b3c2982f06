# SOLQ R-50 with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_solq-r50-plain_8xb4-50e_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
