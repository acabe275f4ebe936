"""Spark's settings: what is pinned, what a cluster may choose, and what nobody but the application's owner may change.

In a TEE the cluster is hostile: it starts the processes and hands them their settings. Nearly every setting of Spark
can end in other code or in plaintext somewhere, so only those are taken from a cluster that say how much and where.

Source: Apache Spark 4, "Configuration" and "Spark Security"; Apache parquet-java, PropertiesDrivenCryptoFactory and
KeyToolkit.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom.analytics.datakeys import KEY_LIFETIME_S
from strongroom.analytics.writing import ALGORITHM, COMPRESSION, DATA_KEY_BITS
from strongroom.errors import Finding, PolicyRejected

HADOOP: Final = "spark.hadoop."
TABLE: Final = "strongroom.table"
FILES: Final = "strongroom.files"
SCRATCH: Final = "strongroom.scratch"
UNIFORM_KEY: Final = "parquet.encryption.uniform.key"
FOOTER_KEY: Final = "parquet.encryption.footer.key"
COLUMN_KEYS: Final = "parquet.encryption.column.keys"

PINNED: Final[Mapping[str, str]] = MappingProxyType(
    {
        HADOOP + "parquet.crypto.factory.class": "strongroom.spark.StrictCryptoFactory",
        HADOOP + "parquet.encryption.kms.client.class": "strongroom.spark.BrokerKmsClient",
        HADOOP + "parquet.encryption.algorithm": ALGORITHM,
        HADOOP + "parquet.encryption.data.key.length.bits": str(DATA_KEY_BITS),
        HADOOP + "parquet.encryption.kek.length.bits": "256",
        HADOOP + "parquet.encryption.double.wrapping": "true",
        HADOOP + "parquet.encryption.plaintext.footer": "false",
        HADOOP + "parquet.encryption.key.material.store.internally": "true",
        HADOOP + "parquet.encryption.cache.lifetime.seconds": str(int(KEY_LIFETIME_S)),
        "spark.authenticate": "true",
        "spark.network.crypto.enabled": "true",
        "spark.network.crypto.cipher": "AES/GCM/NoPadding",  # the default has no authentication
        "spark.network.crypto.authEngineVersion": "2",
        "spark.network.crypto.saslFallback": "false",
        "spark.io.encryption.enabled": "true",
        "spark.io.encryption.keySizeBits": "256",
        "spark.shuffle.service.enabled": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
        "spark.sql.files.ignoreCorruptFiles": "false",
        # A folder named in SQL would be listed by Spark, and a listing is the storage's word.
        "spark.sql.runSQLOnFiles": "false",
    }
)
"""Nobody changes these; an application that does so does it in its own, measured code."""

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.eventLog.enabled": "false",
        "spark.excludeOnFailure.enabled": "true",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.compression.codec": COMPRESSION,
        "spark.sql.session.timeZone": "UTC",
        # Python's aggregations spill to files that Spark doesn't encrypt, once they take more than this.
        "spark.python.worker.memory": "1024g",
        "spark.driver.memory": "1g",
        "spark.executor.memory": "1g",
    }
)
"""The application's owner may change these; of a cluster only those below."""

_SIZE: Final = r"[1-9]\d{0,8}[bkmgtBKMGT]?[bB]?"
_NUMBER: Final = r"\d{1,9}"
_TIME: Final = r"\d{1,9}(us|ms|s|m|min|h|d)?"
_HOST: Final = r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}|\[[0-9a-fA-F:]{2,45}\]"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,199}"
_FLAG: Final = "true|false"

FREE: Final[tuple[tuple[str, str], ...]] = (
    (r"spark\.(driver|executor)\.memory(Overhead)?", _SIZE),
    (r"spark\.(driver|executor)\.cores|spark\.cores\.max|spark\.executor\.instances|spark\.task\.cpus", _NUMBER),
    (r"spark\.(default\.parallelism|sql\.shuffle\.partitions|port\.maxRetries|task\.maxFailures)", _NUMBER),
    (r"spark\.(driver\.maxResultSize|sql\.files\.maxPartitionBytes|sql\.autoBroadcastJoinThreshold)", _SIZE),
    (r"spark\.(driver\.(host|bindAddress)|master\.host|worker\.host)", _HOST),
    (r"spark\.(driver|blockManager|driver\.blockManager)\.port", _NUMBER),
    (r"spark\.app\.(name|id)", _NAME),
    (r"spark\.(network\.timeout|executor\.heartbeatInterval|locality\.wait)", _TIME),
    (r"spark\.rpc\.(message\.maxSize|numRetries|askTimeout|lookupTimeout|retry\.wait)", _TIME),
    (r"spark\.rpc\.netty\.dispatcher\.numThreads|spark\.rpc\.io\.(server|client)Threads", _NUMBER),
    (r"spark\.sql\.adaptive\.(coalescePartitions\.)?enabled", _FLAG),
    (r"spark\.dynamicAllocation\.(enabled|shuffleTracking\.enabled)", _FLAG),
    (r"spark\.dynamicAllocation\.(min|max|initial)Executors", _NUMBER),
    (r"spark\.executor\.id|spark\.executor\.resourceProfileId", _NAME),
)
"""Name and value of what a cluster may choose: amounts, addresses and times."""

_LABEL: Final = r"[A-Za-z0-9][A-Za-z0-9./_-]{0,252}"
_TEMPLATE: Final = r"/opt/spark/pod-template/pod-spec-template\.yml"

KUBERNETES: Final[tuple[tuple[str, str], ...]] = (
    (r"spark\.kubernetes\.(namespace|(driver\.)?pod\.name|executor\.podNamePrefix)", _NAME),
    (r"spark\.kubernetes\.((driver|executor)\.)?container\.image", r"[A-Za-z0-9][A-Za-z0-9.:/@_-]{0,400}"),
    (r"spark\.kubernetes\.container\.image\.pullPolicy", "Always|IfNotPresent|Never"),
    (r"spark\.kubernetes\.authenticate\.(driver|executor)\.serviceAccountName", _NAME),
    (r"spark\.kubernetes\.executor\.podTemplateFile", _TEMPLATE),
    (r"spark\.kubernetes\.(driver|executor)\.podTemplateContainerName", _NAME),
    (r"spark\.kubernetes\.(driver|executor)\.(request|limit)\.cores", r"\d{1,6}(\.\d{1,3})?m?"),
    (r"spark\.(kubernetes\.|driver\.|executor\.)memoryOverheadFactor", r"\d(\.\d{1,9})?"),
    (
        r"spark\.kubernetes\.(driver\.(service\.)?|executor\.)?(node\.selector|label|annotation)\." + _LABEL,
        r"[^\x00-\x1f]{0,500}",
    ),
    (r"spark\.kubernetes\.(submitInDriver|executor\.(deleteOnTermination|disableConfigMap|useDriverPodIP))", _FLAG),
    (r"spark\.kubernetes\.(driver\.annotateExitException|submission\.waitAppCompletion)", _FLAG),
    (r"spark\.kubernetes\.allocation\.batch\.(size|delay)", _TIME),
    (r"spark\.kubernetes\.resource\.type", "python"),
    (r"spark\.local\.dir", r"/var/(spark|data/spark-[0-9a-f-]{36})"),
    (r"spark\.app\.submitTime", r"\d{1,16}"),
    (r"spark\.submit\.deployMode", "client|cluster"),
    (r"spark\.submit\.pyFiles", ""),
)
"""The same for what Kubernetes needs to make pods. Left out are names of classes and of files: the API server is told
what stands in a token's file, and nobody says that it is a token's.
"""


def accepted(given: Mapping[str, str], allowed: Mapping[str, str], *, kubernetes: bool = False) -> dict[str, str]:
    """Settings of a cluster that may be used.

    Args:
        given: What the cluster says.
        allowed: What the application's owner allows beyond that, with these values.
        kubernetes: Whether the cluster is Kubernetes.

    Returns:
        The given settings.

    Raises:
        PolicyRejected: Some are not allowed; a finding for each.
    """
    refused = [
        Finding("spark.setting", f"the cluster sets {name[:200]!r}, which the application's owner did not allow")
        for name, value in sorted(given.items())
        if not may_be_given(name, value, allowed, kubernetes=kubernetes)
    ]
    if refused:
        raise PolicyRejected(
            refused,
            code="spark.setting",
            hint="leave it out, or allow it in the job: strongroom analytics job --allow NAME=VALUE",
        )
    return dict(given)


def may_be_given(name: str, value: str, allowed: Mapping[str, str], *, kubernetes: bool = False) -> bool:
    """Whether a cluster may give this setting: free, pinned to this very value, or allowed with it."""
    if name in PINNED:
        return PINNED[name] == value
    if allowed.get(name, DEFAULTS.get(name)) == value:
        return True
    free = FREE + KUBERNETES if kubernetes else FREE
    return any(re.fullmatch(names, name) and re.fullmatch(values, value) for names, values in free)


def combined(*, own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The settings of a process.

    Args:
        own: Of the application or its owner.
        given: Of a cluster, checked by `accepted`.

    Returns:
        Every setting; the pinned ones win.
    """
    return {**DEFAULTS, **own, **given, **PINNED}
