# SOTR R-50 on LVIS v1 with IUQ; all else is that of the plain model, in the folder of SOTR.
_base_ = ['../sotr/sotr_r50_4xb2-300k_lvis.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
