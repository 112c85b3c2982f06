# ISDA R-50 on LVIS v1 with IUQ; all else is that of the plain model, in the folder of ISDA.
_base_ = ['../isda/isda_r50_8xb1-36e_lvis.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
