"""The paper's tables, the claims and an overview, each computed from the runs in a store."""

from tsp.analysis.records import METHOD_NAMES, TASK_NAMES, load_losses, load_topology
from tsp.analysis.tables.decided import (
    chapter_claims,
    claims,
    claims_elsewhere,
    effect,
    last_prompts,
    typeset,
)
from tsp.analysis.tables.overview import headline, same_start, trained
from tsp.analysis.tables.table_2 import evidence_of, table2, table2_runs
from tsp.analysis.tables.table_3 import convergence, pairs, table3, table3_tests
from tsp.analysis.tables.table_4 import table4, weighted
