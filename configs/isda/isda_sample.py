# A small ISDA for the built-in sample, from random weights, on two CPU cores (`make demo`).
# Every part of the full model is there, each smaller; see README of this folder for the result.
_base_ = ['./isda_r50_3x_coco.py']
