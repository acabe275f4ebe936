"""Renders what is deployed from workload definitions: Gramine manifests, certificates of services."""
