"""The laws of odd nets on those of odd_conv.py."""

import odd_conv
from odd_laws import Laws, cases_of


class TestConv(Laws):
    cases = cases_of(odd_conv)
