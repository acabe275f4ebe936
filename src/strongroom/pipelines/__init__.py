"""The Kubeflow pipeline: seven steps, each a workload that attests itself and has its own keys."""
