"""What the nodes of a cluster are: an option of several commands."""

from enum import StrEnum


class Overlay(StrEnum):
    """Where it runs."""

    AKS_SGX = "aks-sgx"
    AKS_CVM = "aks-cvm"
    SIMULATED = "simulated"
