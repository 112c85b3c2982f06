# ISDA R-50 with IUQ; data and schedule are those of the plain model, in the folder of ISDA.
_base_ = ['../isda/isda_r50_8xb1-36e_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
