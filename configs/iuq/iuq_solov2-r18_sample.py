# A small SOLOv2 for the built-in sample with IUQ; data and schedule are those of the plain model.
_base_ = ['./iuq_solov2-r18-plain_sample.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
