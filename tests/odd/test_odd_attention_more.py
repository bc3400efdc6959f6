"""The laws of odd nets on those of odd_attention_more.py."""

import odd_attention_more
from odd_laws import Laws, cases_of


class TestAttentionMore(Laws):
    cases = cases_of(odd_attention_more)
