"""Two real ranks hold the same memory after every gathered step."""

import copy

import pytest
import torch
from torch import distributed
from torch.multiprocessing import spawn

from isda_suite.methods.iuq.memory import PixelMemory

pytestmark = pytest.mark.ranks
# Rows that each rank pushes in a step; a rank without instances does not know their length yet.
STEPS = ((3, 0), (2, 4), (0, 0), (5, 3), (0, 4))
WIDTH, CAPACITY = 6, 9


def _push_steps(rank, folder):
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    states = {}
    for gather in (True, False):
        memory = PixelMemory(capacity=CAPACITY, min_fill=0, gather=gather)
        states[gather] = []
        for step, counts in enumerate(STEPS):
            torch.manual_seed(10 * step + rank)  # every rank sees images of its own
            width = 0 if memory.bank is None and counts[rank] == 0 else WIDTH
            about = torch.full((counts[rank], 3), 100 * step + 10 * rank) + torch.arange(3)
            memory.push(torch.randn(counts[rank], width), about)
            # A copy: what is not yet full shares its storage with later states.
            states[gather].append(copy.deepcopy(memory.state_dict()))
    torch.save(states, f'{folder}/rank_{rank}.pth')
    distributed.destroy_process_group()


def test_ranks_hold_the_same_memory_if_and_only_if_it_is_gathered(tmp_path):
    spawn(_push_steps, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f'rank_{rank}.pth') for rank in (0, 1))
    pushed = 0
    for one, other, counts in zip(first[True], second[True], STEPS, strict=True):
        pushed += sum(counts)
        assert len(one['bank']) == min(pushed, CAPACITY)
        assert torch.equal(one['bank'], other['bank'])
        assert torch.equal(one['about'], other['about'])
        assert one['pointer'] == other['pointer'] == pushed % CAPACITY
    assert {0, 1} == {int(image) // 10 % 10 for image in first[True][-1]['about'][:, 0]}
    alone = [states[False][-1]['about'][:, 0] // 10 % 10 for states in (first, second)]
    assert set(alone[0].tolist()) == {0} and set(alone[1].tolist()) == {1}
