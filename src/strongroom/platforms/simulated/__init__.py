"""A simulated machine: complete, genuine-looking SGX evidence under a root of its own, for development and tests.

Nothing here protects anything. Only `strongroom.composition` and tests import this package, and everything it makes
says "simulated": certificate names, file names, the platform's name and flag.
"""

from strongroom.platforms.simulated.folder import read_trust
from strongroom.platforms.simulated.machine import SIMULATED_MR_SIGNER, SimulatedMachine
from strongroom.platforms.simulated.pki import Validity
from strongroom.platforms.simulated.platform import SimulatedPlatform
from strongroom.platforms.simulated.tcb import TcbFacts

__all__ = ["SIMULATED_MR_SIGNER", "SimulatedMachine", "SimulatedPlatform", "TcbFacts", "Validity", "read_trust"]
