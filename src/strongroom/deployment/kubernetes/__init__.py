"""Kubernetes manifests from workload definitions: rendered, laid out for Kustomize, validated, applied."""
