"""Every file of cases, read, so that all are entered."""

import odd_attention
import odd_attention_more
import odd_conv
import odd_experts
import odd_moves
import odd_norms
import odd_outputs
import odd_params
import odd_recurrent
import odd_shapes
import odd_vision
from odd_case import CASES

FILES = (
    odd_attention,
    odd_attention_more,
    odd_conv,
    odd_experts,
    odd_moves,
    odd_norms,
    odd_outputs,
    odd_params,
    odd_recurrent,
    odd_shapes,
    odd_vision,
)
assert {c.build.__module__ for c in CASES.values()} == {f.__name__ for f in FILES}
