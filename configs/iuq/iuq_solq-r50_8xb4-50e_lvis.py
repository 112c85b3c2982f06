# SOLQ R-50 on LVIS v1 with IUQ; all else is that of the plain model, in the folder of SOLQ.
_base_ = ['../solq/solq_r50_8xb4-50e_lvis.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
