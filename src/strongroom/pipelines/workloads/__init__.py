"""Workload definitions of the pipeline's steps, one folder a step."""
