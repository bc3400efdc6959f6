"""Laws 1, 2, 3, 4, 9 and 10 on random networks; SECATEUR_FUZZ says how many."""

import os

import pytest
from fuzz_laws import Coverage, check
from hypothesis import HealthCheck, Phase, given, seed, settings
from random_nets import programs

SHARDS = 4
NETS = int(os.environ.get("SECATEUR_FUZZ", "200")) // SHARDS
FLOOR = 0.3  # of all units, over all networks of a shard: freezing everything is no way out


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_laws_hold_on_random_networks(shard, tmp_path):
    coverage = Coverage()

    @seed(shard)
    @settings(
        max_examples=NETS,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(programs())
    def hold(program):
        check(program, tmp_path, coverage)

    hold()
    assert coverage.nets >= NETS * 0.9
    assert coverage.refused <= coverage.nets * 0.02
    assert coverage.share > FLOOR, coverage.reasons.most_common(20)
