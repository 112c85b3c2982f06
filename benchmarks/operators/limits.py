"""What the hardware allows: the least time of a case, counted from its work.

Counts for one sampled point of C channels. Forward: 8 C flops, 4 C elements gathered. Backward:
16 C flops, 4 C elements gathered and as many added to. Compulsory bytes are operands and results,
once. Convolutions add the products of matrices, once forward and twice backward.
"""

from dataclasses import dataclass

from .cases import AttentionCase, Case

_BYTES = {'float32': 4, 'bfloat16': 2, 'float16': 2}


@dataclass(frozen=True)
class Work:
    """What one forward, or forward and backward, has to do at least.

    Attributes:
        flops: of the samples.
        products: flops of the products of matrices.
        gathered: bytes of neighbours read.
        scattered: bytes of neighbours added to.
        compulsory: bytes of operands and results, once.
        points: samples of one head or deform group, over which channels run.
        channels: of one sample.
    """

    flops: float
    products: float
    gathered: float
    scattered: float
    compulsory: float
    points: int
    channels: int


def work_of(case: Case, dtype: str, backward: bool) -> Work:
    """Count the work of a case; ``backward`` adds it to that of forward."""
    size = _BYTES[dtype]
    if isinstance(case, AttentionCase):
        points, channels, products = case.samples, case.channels, 0.0
        values = (case.tokens + case.num_queries) * case.heads * channels
        compulsory = values * size + points * 3 * 4
        if case.queries is not None:  # few queries read a part of the levels only
            compulsory = min(compulsory, points * (4 * channels * size + 12))
    else:
        points, channels = case.samples, case.channels
        products = 2.0 * points * channels * case.out_channels
        offsets = 3 if case.version == 2 else 2
        elements = case.pixels * (channels + case.out_channels) + points * offsets
        compulsory = (elements + 9 * channels * case.out_channels) * size
    neighbours = 4.0 * points * channels
    return Work(
        flops=points * channels * (24.0 if backward else 8.0),
        products=products * (3 if backward else 1),
        gathered=neighbours * size * (2 if backward else 1),
        scattered=neighbours * 4 if backward else 0.0,
        compulsory=compulsory * (3 if backward else 1),
        points=points,
        channels=channels,
    )


@dataclass(frozen=True)
class Core:
    """One core of the processor that the counts were made for (AMD EPYC, Zen 5)."""

    clock_ghz: float = 4.4
    copy_gb_s: float = 37.0
    cache_mb: float = 33.6  # of the last level; what fits stays there between calls
    lanes: int = 16  # float32 in a register
    loads_per_clock: int = 2

    @property
    def gflops(self) -> float:
        """Peak: two fused multiply-adds a clock on every lane."""
        return 4 * self.lanes * self.clock_ghz


CORES = {'avx512': Core(), 'avx2': Core(lanes=8)}


@dataclass(frozen=True)
class Gpu:
    """NVIDIA H200: measured copy, data sheet, and an assumed rate of additions at L2."""

    copy_gb_s: float = 4300.0
    float32_gflops: float = 67e3
    tensor_gflops: float = 800e3
    l1_gb_s: float = 33e3
    reductions_gb_s: float = 2700.0


GPU = Gpu()


def limits_ms(
    case: Case, backward: bool, device: str, dtype: str, isa: str | None, threads: int
) -> dict[str, float]:
    """Return what each resource needs at least, in milliseconds; the largest is the limit.

    Returns:
        Resource to time; empty for a processor that the counts say nothing about.
    """
    work = work_of(case, dtype, backward)
    if device == 'cuda':
        return _gpu_limits(work, dtype)
    core = CORES.get(isa or '')
    if core is None:
        return {}
    limits = {'arithmetic': (work.flops + work.products) / core.gflops / threads}
    if work.compulsory > core.cache_mb * 1e6:
        limits['memory'] = work.compulsory / core.copy_gb_s
    if isinstance(case, AttentionCase):
        # 4 C elements as vectors and 8 scalars of a point; backward loads what it adds to as well.
        vectors = 4 * work.channels / core.lanes
        loads = (vectors + 8) + ((2 * vectors + 8) if backward else 0)
        limits['loads'] = work.points * loads / core.loads_per_clock / core.clock_ghz / threads
    return {name: nanoseconds * 1e-6 for name, nanoseconds in limits.items()}


def _gpu_limits(work: Work, dtype: str) -> dict[str, float]:
    matrices = GPU.float32_gflops if dtype == 'float32' else GPU.tensor_gflops
    limits = {
        'memory': work.compulsory / GPU.copy_gb_s,
        'arithmetic': work.flops / GPU.float32_gflops + work.products / matrices,
        'L1 gathers': work.gathered / GPU.l1_gb_s,
        'additions at L2': work.scattered / GPU.reductions_gb_s,
    }
    return {name: nanoseconds * 1e-6 for name, nanoseconds in limits.items() if nanoseconds}
