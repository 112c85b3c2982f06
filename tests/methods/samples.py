"""Data samples and objects for tests of detectors."""

from mmdet.structures import DetDataSample


def samples_of(batch_hw, img_hw, gts=None, ori_hw=None):
    """Make data samples of images padded to one size."""
    made = []
    for i, size in enumerate(img_hw):
        ori_shape = tuple((ori_hw or img_hw)[i])
        meta = dict(
            batch_input_shape=tuple(batch_hw), img_shape=tuple(size), ori_shape=ori_shape,
            scale_factor=(size[1] / ori_shape[1], size[0] / ori_shape[0]),
        )  # fmt: skip
        made.append(DetDataSample(metainfo=meta))
        if gts is not None:
            made[-1].gt_instances = gts[i]
    return made
