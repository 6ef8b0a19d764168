"""Units, statistics, claims with their rules, tables, held-out evaluation."""
