"""Genuine? (chains, signatures, TCB) and acceptable? (policy). Pure."""
