# SOTR R-50 with IUQ; data and schedule are those of the plain model, in the folder of SOTR.
_base_ = ['../sotr/sotr_r50_4xb2-300k_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
