# Mask2Former R-50 on LVIS v1 with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_mask2former-r50-plain_8xb2-50e_lvis.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
