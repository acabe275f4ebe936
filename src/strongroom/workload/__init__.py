"""The workload definition and its measurement."""
