"""The workload: one TOML file from which measurement, grant and deployment are derived."""

from strongroom.workload.definition import Mount, Resources, Workload, load_workload
from strongroom.workload.measure import Measurement, measure

__all__ = ["Measurement", "Mount", "Resources", "Workload", "load_workload", "measure"]
