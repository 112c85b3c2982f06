# Mask2Former Swin-B with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_mask2former-swin-b-plain_8xb2-50e_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
