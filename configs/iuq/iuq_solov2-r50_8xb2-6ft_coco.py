# Six epochs more for a trained SOLOv2 R-50, with IUQ, whose terms grow over the first 2000 steps.
# Give the weights with --cfg-options load_from=FILE: any checkpoint of the plain model, of mmdet
# too.
_base_ = ['./iuq_solov2-r50-plain_8xb2-6ft_coco.py']

iuq = dict(type='isda_suite.IUQDetector', warmup_steps=2000)
model = dict(_delete_=True, detector={{_base_.model}}, **iuq)
