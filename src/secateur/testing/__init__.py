"""Executable contracts for criteria, allocators and methods of your own; an AssertionError names the law broken.

    from secateur.testing import check_criterion

    def test_mine():
        check_criterion(MyCriterion())

Each check runs on three small networks (convolutions with batch norm; a residual net whose shortcut pads channels by
int attributes; linear layers without a norm) and a few batches of real digits, or on the network you give. To refuse a
network by name, with a SecateurError, is fine; at least one must be worked on.
"""

from .allocator import check_allocator
from .criterion import check_criterion, permuted
from .method import check_method
from .weight_criterion import check_weight_criterion

__all__ = ["check_allocator", "check_criterion", "check_method", "check_weight_criterion", "permuted"]
