"""The loan application over HTTPS: `/ping`, `/data_processing`, `/train`, `/predict` and jobs.

The four calls take the multipart fields of Intel's cloud optimization module for Azure and answer its JSON; everything
behind them is this project's: strict names, sealed files, versions, work in bounded pools, problem documents.

request ── multipart, upload ──> fields ──> jobs (pool) ──> work ──> places (a view of one storage root) ──> Storage
                                  └──────> predictions (pool) ──> models (loaded once, swapped)
"""

from strongroom.loan.service.server import Listen, serve
from strongroom.loan.service.settings import Limits, Root, ServiceSettings
from strongroom.loan.service.tls import TlsMaterial, attested_material, read_pem

__all__ = [
    "Limits",
    "Listen",
    "Root",
    "ServiceSettings",
    "TlsMaterial",
    "attested_material",
    "read_pem",
    "serve",
]
