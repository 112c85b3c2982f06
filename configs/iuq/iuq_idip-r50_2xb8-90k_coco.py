# IDIP R-50 with IUQ; data and schedule are those of the plain model, in the folder of IDIP.
_base_ = ['../idip/idip_r50_2xb8-90k_coco.py']

model = dict(_delete_=True, type='isda_suite.IUQDetector', detector={{_base_.model}})
