"""What the tests of all operators share."""

import pytest
import torch


@pytest.fixture
def deterministic():
    """Deterministic algorithms, for which new memory is filled with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
