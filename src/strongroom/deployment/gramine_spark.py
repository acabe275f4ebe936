"""What a manifest needs beyond a Python program's when the workload is Spark's driver or executor on Kubernetes.

Java and what it reads; what Spark and Kubernetes put into the pod; places for what must not leave the enclave. Python
and Java are processes of their own, and so enclaves of their own; memory of one is not seen by the other. What they
share is written under the enclave's own sealing key, which no other code and no other machine has.

Source: Gramine documentation, "Manifest syntax" (release 1.9: passthrough variables, encrypted mounts and
``_sgx_mrenclave``, ``sgx.use_exinfo``) and "Gramine features" (tmpfs, processes, UNIX domain sockets).
"""

from dataclasses import dataclass
from typing import Final

from strongroom.errors import ConfigurationError

CALL_VARIABLE: Final = "STRONGROOM_SPARK_CALL"
PRIVATE: Final = "/run/strongroom"
SPILL: Final = "/var/spark"
SEALING_KEY: Final = "_sgx_mrenclave"
# Put there by Spark and Kubernetes. The host says what they hold, and the workload takes them so.
HOSTS_FOLDERS: Final = ("/opt/spark/conf", "/opt/spark/pod-template", "/var/run/secrets/kubernetes.io/serviceaccount")
_ACCOUNTS: Final = "/etc/passwd"  # Hadoop asks for its user's name


@dataclass(frozen=True, slots=True)
class SparkRuntime:
    """Where Java is.

    Args:
        java_home: Folder of the Java runtime, absolute.
        java_settings: Folder that its ``conf`` leads to, as Debian has it.
    """

    java_home: str = "/usr/lib/jvm/java-17-openjdk-amd64"
    java_settings: str = "/etc/java-17-openjdk"

    def __post_init__(self) -> None:
        """Refuse folders that a manifest can't name.

        Raises:
            ConfigurationError: One is not absolute.
        """
        if not all(folder.startswith("/") for folder in (self.java_home, self.java_settings)):
            raise ConfigurationError("the folder of Java is not absolute", code="manifest.java")

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the enclave. Fewer arenas: each of glibc's takes protected memory."""
        return {"JAVA_HOME": self.java_home, "MALLOC_ARENA_MAX": "4"}

    @property
    def trusted_folders(self) -> tuple[str, ...]:
        """Folders whose files are measured."""
        return (self.java_home, self.java_settings)

    @property
    def trusted_files(self) -> tuple[str, ...]:
        """Files that are measured."""
        return (_ACCOUNTS,)

    def mounts(self) -> list[dict[str, str]]:
        """Mounts, in the manifest's words."""
        outside = (*self.trusted_folders, *self.trusted_files, *HOSTS_FOLDERS)
        return [
            *({"path": path, "uri": f"file:{path}"} for path in outside),
            {"path": PRIVATE, "uri": f"file:{PRIVATE}", "type": "encrypted", "key_name": SEALING_KEY},
            {"path": SPILL, "type": "tmpfs"},
        ]
