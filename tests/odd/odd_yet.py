"""Tests that do not hold yet: what is seen -> test -> parameters. Held strictly by conftest.py."""

SEEN: dict[str, dict[str, list[str]]] = {
    "AssertionError in Labels.unify: LSTM with proj_size": {
        "test_a_budget_is_met": ["Projected"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["Projected"],
        "test_cuts_are_exact": ["Projected"],
        "test_every_group_can_lose_one_unit_alone": ["Projected"],
        "test_what_can_be_cut_is_found": ["Projected"],
        "test_what_must_stay_is_named_with_the_reason": ["Projected"],
    },
    (
        "BadModel: group 'up' is written by '', whose weight is computed from others; use a criterion that do"
        "es not look at weights, or frozen='up'"
    ): {
        "test_a_budget_is_met": ["BatchedExperts"],
    },
    (
        "RuntimeError: All tensors must have the same dtype, got input1: double, input2: double, weight: floa"
        "t, bias: float"
    ): {
        "test_a_budget_is_met": ["Bilinear"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["Bilinear"],
        "test_cuts_are_exact": ["Bilinear"],
        "test_every_group_can_lose_one_unit_alone": ["Bilinear"],
    },
    "RuntimeError: Tensor.item() cannot be called on meta tensors": {
        "test_the_meta_device_is_traced_and_refused_to_be_cut": [
            "Einsum",
            "Glu",
            "GroupNormOfTwo",
            "Stream",
            "TwoInputs",
        ],
    },
    "RuntimeError: prelu: Type promoting not supported. Got Double and Float": {
        "test_a_budget_is_met": ["PerChannelPReLU"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["PerChannelPReLU"],
        "test_cuts_are_exact": ["PerChannelPReLU"],
        "test_every_group_can_lose_one_unit_alone": ["PerChannelPReLU"],
    },
    "TypeError: 'Traced' object is not subscriptable": {
        "test_a_budget_is_met": ["LocalResponse"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["LocalResponse"],
        "test_cuts_are_exact": ["LocalResponse"],
        "test_every_group_can_lose_one_unit_alone": ["LocalResponse"],
        "test_what_can_be_cut_is_found": ["LocalResponse"],
        "test_what_must_stay_is_named_with_the_reason": ["LocalResponse"],
    },
    (
        "VerificationError even of an empty plan: `restate` reads .weight of the copy in training mode, which"
        " steps u and v"
    ): {
        "test_a_budget_is_met": ["SpectralNorm"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["SpectralNorm"],
        "test_cuts_are_exact": ["SpectralNorm"],
        "test_every_group_can_lose_one_unit_alone": ["SpectralNorm"],
    },
    "VerificationError: another path than traced: it never ran aten.addmm.default at 'stem'": {
        "test_a_prune_inside_inference_mode": ["Einsum"],
    },
    "VerificationError: another path than traced: it never ran aten.addmm.default at 'up'": {
        "test_a_prune_inside_inference_mode": ["TiedHead"],
    },
    "VerificationError: another path than traced: it never ran convolution at 'one.0'": {
        "test_a_prune_inside_inference_mode": ["Glu"],
    },
    "VerificationError: another path than traced: it ran aten.mean.dim out of turn": {
        "test_a_prune_inside_inference_mode": ["GroupNormOfTwo", "Stream", "TwoInputs"],
    },
    "a plain object that the forward writes to keeps fake tensors": {
        "test_memories_in_a_plain_object_are_put_back": [""],
    },
    "frozen: more (6): combined with a tensor of fixed width": {
        "test_what_can_be_cut_is_found": ["Bag"],
    },
    "frozen: one#2 (12): combined with a tensor of fixed width": {
        "test_what_can_be_cut_is_found": ["LowRankAdded"],
    },
    (
        "frozen: one.0 (8): aten.max.dim gives the number of an index; frozen: place (1): a single index broa"
        "dcast over many"
    ): {
        "test_what_can_be_cut_is_found": ["BlockAttention"],
    },
    "lists and dicts of the cut model hold fake tensors": {
        "test_the_cut_model_remembers_nothing_of_its_making": [""],
    },
    "lists, dicts and sets that the forward writes to keep fake tensors": {
        "test_a_forward_that_writes_to_its_model_leaves_it_as_it_was": ["cut", "prune", "trace"],
        "test_whatever_the_forward_raises_comes_through_and_leaves_nothing": [
            "KeyError",
            "KeyboardInterrupt",
            "RuntimeError",
            "StopIteration",
        ],
    },
    "one group of a single unit, `parts`, where c // parts = 4 units could go": {
        "test_what_can_be_cut_is_found": ["ChannelShuffled"],
    },
    "one group of a single unit, where groups = channels = 8 could go": {
        "test_what_can_be_cut_is_found": ["GroupNormOfEach"],
    },
    "the cut model does not run: nn.RMSNorm.normalized_shape is not restated": {
        "test_a_budget_is_met": ["TorchRmsNormStream"],
        "test_a_cut_model_is_smaller_trains_and_takes_another_batch": ["TorchRmsNormStream"],
        "test_a_normed_stream_cut_by_hand": ["TorchRmsNormStream"],
        "test_cuts_are_exact": ["TorchRmsNormStream"],
        "test_every_group_can_lose_one_unit_alone": ["TorchRmsNormStream"],
    },
    "the forward's draws move Python's and NumPy's generators; only torch's is put back": {
        "test_no_random_number_is_used_up": ["cut", "prune", "prune with data", "trace"],
    },
}
NOT_YET = {(t, p): seen for seen, tests in SEEN.items() for t, names in tests.items() for p in names}
