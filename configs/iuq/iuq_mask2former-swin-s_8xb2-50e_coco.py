# Mask2Former Swin-S with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_mask2former-swin-s-plain_8xb2-50e_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
