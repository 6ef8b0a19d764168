"""Statistics: rank tests, pairs of runs, families of tests, and what a test could have found."""

from tsp.analysis.stats.families import (
    FEWEST,
    Interval,
    bootstrap_interval,
    holm,
    holm_levels,
    median_interval,
    share_interval,
    sign_test,
)
from tsp.analysis.stats.features import feature_tests
from tsp.analysis.stats.pairs import PairedResult, paired_difference, paired_ratio, signed_rank
from tsp.analysis.stats.power import (
    POWER,
    detectable_difference,
    detectable_rho,
    detectable_share,
    difference_power,
)
from tsp.analysis.stats.ranks import (
    BlockTest,
    RankTest,
    attainable_rho,
    block_rho,
    mann_whitney,
    rho_from_u,
    rho_interval,
    spearman,
    stratified_rho,
)
