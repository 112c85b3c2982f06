# SOLQ R-50 without IUQ: what the configuration with IUQ has to be compared with. Its coarsest map
# has stride 64, and maps are flipped and cut exactly only where that divides the padded batch.
_base_ = ['../solq/solq_r50_8xb4-50e_coco.py']

model = dict(data_preprocessor=dict(pad_size_divisor=64))
