"""The logits of one pass over an image that is too large for one pass.

Three parts of the network see the whole image: the image pooling of the deep head and the means of
both fusion blocks. What feeds them is computed in windows first, each as wide around as its part of
the network looks, and kept in temporary files; the next part works on these with the true means.
Each part of the network runs once over every pixel, and again over the surroundings.

::

    picture -> backbone c4 -> mean -> deep feature -> D16 ------> mean -+
    picture -> shallow branch -> S8, S16 projected -------------> means +-> F16 -> D8 -> mean -> F8
                                                                                           -> logits

The maps take 13 bytes of disk a pixel of the image.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import ASPPHead
from torch import Tensor

from isda_suite.layers.enlarged_rows import Size
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.windows import (
    FileMap,
    Window,
    enlarged,
    filled,
    reach_of,
    sources,
    split,
)

from .fusion import RelationAwareFusion
from .input_windows import InputWindows, Read, coarser, deep_size

if TYPE_CHECKING:
    from .segmentor import ISDNet

# context_head and smooth of a fusion block, the first convolution of a classifier.
_MERGE_REACH, _CLASSIFY_REACH = 2, 1
_PROJECT_REACH = 1


class Grids(NamedTuple):
    """Heights and widths of the deep feature, of S16 and of S8."""

    deep: Size
    sixteenth: Size
    eighth: Size


class Part(NamedTuple):
    """A part of the network that takes memory.

    Attributes:
        run: Runs it on an empty window.
        pixels: Pixels of the image that this window covers.
        reach: How many pixels around a window it needs.
    """

    run: Callable[[], Any]
    pixels: int
    reach: int


class Job(NamedTuple):
    """An image and how it is worked through.

    Attributes:
        image: What both branches see of it.
        grids: Sizes of its maps.
        tile: Side of the windows in pixels, what is around them not counted.
        done: Called after each window.
    """

    image: InputWindows
    grids: Grids
    tile: int
    done: Callable[[], Any]

    def fill(self, size_hw: Size, stride: int, compute: Callable[[Window], Tensor]) -> FileMap:
        """Compute a map of this stride."""
        return filled(size_hw, side_of(self.tile, stride), compute, self.done)


class ExactTiles:
    """Compute logits in windows that equal those of one pass but for rounding.

    Args:
        model: In evaluation mode.

    Raises:
        ModelConfigError: if parts of the model see the whole image in a way that is not known here.
    """

    def __init__(self, model: 'ISDNet') -> None:
        self._model: Any = model
        self._device = next(model.parameters()).device
        if type(model.decode_head)._forward_feature is not ASPPHead._forward_feature:
            raise ModelConfigError(
                f'decode_head: exact tiles are for ASPPHead, got {type(model.decode_head).__name__}'
            )
        if model.pyramid.odd_sides != 'crop':
            raise ModelConfigError("odd_sides: exact tiles are for 'crop'")
        self._measure()

    def _measure(self) -> None:
        """Find stride and reach of both branches."""
        model, device = self._model, self._device
        with torch.no_grad():
            probe = self._backbone(torch.zeros((1, 3, 256, 256), device=device))
            self._channels, self._stride = probe.shape[1], 256 // probe.shape[2]
            self._deep_reach = reach_of(self._backbone, 3, self._stride, device)
            self._head_reach = reach_of(self._head_without_pooling, self._channels, 1, device)
            self._shallow_reach = reach_of(self._shallow_probe, 3, 16, device)
        self._cell = model.deep_ratio * self._stride  # pixels of a cell of the deep feature

    def parts(self) -> list[Part]:
        """Return the parts that take most of the memory, to be measured."""
        deep, cells, side = 256, 64, 512  # of windows that are large against what is fixed

        def zeros(channels: int, length: int) -> Tensor:
            return torch.zeros((1, channels, length, length), device=self._device)

        def shallow() -> Any:
            return self._shallow(self._model.residuals(zeros(3, side))[0])

        return [
            Part(
                lambda: self._backbone(zeros(3, deep)),
                (deep * self._model.deep_ratio) ** 2,
                self._deep_reach * self._cell,
            ),
            Part(
                lambda: self._head_without_pooling(zeros(self._channels, cells)),
                (cells * self._cell) ** 2,
                self._head_reach * self._cell,
            ),
            Part(shallow, side**2, self._shallow_reach * 16),
        ]

    def _backbone(self, deep_input: Tensor) -> Tensor:
        head = self._model.decode_head
        found: Tensor = head._transform_inputs(self._model.extract_feat(deep_input))
        return found

    def _head_without_pooling(self, feature: Tensor) -> Tensor:
        pooled = feature.new_zeros((1, self._model.decode_head.channels, 1, 1))
        return self._head(feature, pooled)

    def _head(self, feature: Tensor, pooled: Tensor) -> Tensor:
        """Compute the deep feature, reduced, from the backbone's and the result of its pooling."""
        head = self._model.decode_head
        branches = [pooled.expand(-1, -1, *feature.shape[2:]), *head.aspp_modules(feature)]
        found: Tensor = self._model.refine_head.reduce(head.bottleneck(torch.cat(branches, dim=1)))
        return found

    def _shallow(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the projections of S8 and S16."""
        head, shallow = self._model.refine_head, self._model.shallow_branch
        feature = shallow.stem(residuals)
        del residuals
        eighth, sixteenth = shallow.after_stem(feature)
        return (
            head.fuse8.spatial_attention.project(eighth),
            head.fuse16.spatial_attention.project(sixteenth),
        )

    def _shallow_probe(self, image: Tensor) -> Tensor:
        """Put both maps of the shallow branch on the coarser grid; any cell that sees counts."""
        eighth, sixteenth = self._shallow(self._model.residuals(image)[0])
        return torch.cat([F.pixel_unshuffle(eighth, 2), sixteenth], dim=1)

    def num_windows(self, size_hw: Size, tile: int) -> int:
        """Return how many windows of all maps are computed."""
        strides = (self._cell, 16, 8)
        deep, sixteenth, eighth = (
            len(split(grid, side_of(tile, stride)))
            for grid, stride in zip(self._grids(size_hw), strides, strict=True)
        )
        return 3 * deep + 3 * sixteenth + eighth

    def logits(
        self, read: Read, size_hw: Size, tile: int, done: Callable[[], Any] = lambda: None
    ) -> FileMap:
        """Compute the logits of an image.

        Args:
            read: From a window of the image to its pixels, (1, 3, h, w), normalised.
            size_hw: Height and width of the image.
            tile: Side of the windows in pixels, what is around them not counted.
            done: Called after each window.

        Returns:
            (1, K, H/8, W/8) in a temporary file.

        Raises:
            ModelConfigError: if the sides of the image do not suit ``deep_sampling``.
            OSError: if the disk has no room for the maps.
        """
        head = self._model.refine_head
        job = Job(InputWindows(self._model, read, size_hw), self._grids(size_hw), tile, done)
        # A map's file goes as soon as nothing refers to it.
        with torch.no_grad():
            context = self._projected(job, head.fuse16, self._deep_feature(job), self._cell)
            eighth, sixteenth = self._spatial(job)
            fused = self._fused(job, head.fuse16, sixteenth, context, 16)
            del sixteenth
            context = self._projected(job, head.fuse8, fused, 16)
            del fused
            return self._fused(job, head.fuse8, eighth, context, 8, head.cls_seg)

    def _grids(self, size_hw: Size) -> Grids:
        deep = coarser(deep_size(self._model, size_hw), self._stride)
        return Grids(deep, coarser(size_hw, 16), coarser(size_hw, 8))

    # ------------------------------------------------------------------------------ deep branch

    def _deep_feature(self, job: Job) -> FileMap:
        def run_backbone(window: Window) -> Tensor:
            around = window.widened(self._deep_reach, job.grids.deep)
            pixels = around.times(self._stride, job.image.deep_hw)
            return window.cut(self._backbone(job.image.deep(pixels)), around)

        feature = job.fill(job.grids.deep, self._cell, run_backbone)
        pooled = self._model.decode_head.image_pool[1](feature.mean)

        def run_head(window: Window) -> Tensor:
            around = window.widened(self._head_reach, job.grids.deep)
            return window.cut(self._head(feature.read(around), pooled), around)

        return job.fill(job.grids.deep, self._cell, run_head)

    # --------------------------------------------------------------------------- shallow branch

    def _spatial(self, job: Job) -> tuple[FileMap, FileMap]:
        """Compute the projections of S8 and of S16."""
        channels = self._model.refine_head.channels
        eighth, sixteenth = (
            FileMap(channels, grid, self._device)
            for grid in (job.grids.eighth, job.grids.sixteenth)
        )
        for window in split(job.grids.sixteenth, side_of(job.tile, 16)):
            around = window.widened(self._shallow_reach, job.grids.sixteenth)
            pixels = around.times(16, job.image.size_hw)
            fine, coarse = self._shallow(job.image.residuals(pixels))
            finer, finer_around = (part.times(2, job.grids.eighth) for part in (window, around))
            eighth.write(finer, finer.cut(fine, finer_around))
            sixteenth.write(window, window.cut(coarse, around))
            job.done()
        return eighth, sixteenth

    # ----------------------------------------------------------------------------------- fusion

    def _projected(
        self, job: Job, fusion: RelationAwareFusion, context: FileMap, stride: int
    ) -> FileMap:
        def project(window: Window) -> Tensor:
            around = window.widened(_PROJECT_REACH, context.size_hw)
            projected = fusion.context_attention.project(context.read(around))
            return window.cut(projected, around)

        return job.fill(context.size_hw, stride, project)

    def _fused(
        self,
        job: Job,
        fusion: RelationAwareFusion,
        spatial: FileMap,
        context: FileMap,
        stride: int,
        classify: Callable[[Tensor], Tensor] | None = None,
    ) -> FileMap:
        """Fuse two projections, and classify the result if there is a classifier."""
        spatial_weights, context_weights = fusion.channel_weights(spatial.mean, context.mean)

        def fuse(window: Window) -> Tensor:
            around = window.widened(_MERGE_REACH + _CLASSIFY_REACH, spatial.size_hw)
            seen = sources(around, context.size_hw, spatial.size_hw)
            weighed = context.read(seen) * context_weights
            larger = enlarged(weighed, seen, context.size_hw, around, spatial.size_hw)
            merged = fusion.merge(spatial.read(around) * spatial_weights, larger)[2]
            return window.cut(classify(merged) if classify else merged, around)

        return job.fill(spatial.size_hw, stride, fuse)


def side_of(tile: int, stride: int) -> int:
    """Return the side of windows of a map of this stride."""
    return max(1, tile // stride)
