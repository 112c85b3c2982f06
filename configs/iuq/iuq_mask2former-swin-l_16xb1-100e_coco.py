# Mask2Former Swin-L with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_mask2former-swin-l-plain_16xb1-100e_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
