"""Workload definitions of the loan-default job, one folder a step. `strongroom demo` copies and runs them."""
