# CondInst R-50 on LVIS v1 with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_condinst-r50-plain_8xb2-36e_lvis.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
