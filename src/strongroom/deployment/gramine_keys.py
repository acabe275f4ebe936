"""The keys a Gramine 1.9 manifest may hold. Gramine's own tools refuse a manifest with any other.

Source: Gramine documentation, "Manifest syntax", release 1.9, and the schema that ``gramine-manifest-check`` applies.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

ANY_NAME: Final = "*"

# A nested table; None ends a branch (a value, or a table whose inside Gramine does not check). "*" is any name.
KNOWN_KEYS: Final[Mapping[str, Any]] = {
    "libos": {"entrypoint": None, "check_invalid_pointers": None},
    "loader": {
        "entrypoint": {"uri": None, "sha256": None},
        "argv": None,
        "argv_src_file": None,
        "env": {ANY_NAME: {"value": None, "passthrough": None}},
        "env_src_file": None,
        "gid": None,
        "uid": None,
        "insecure__use_cmdline_argv": None,
        "insecure__use_host_env": None,
        "insecure__disable_aslr": None,
        "log_file": None,
        "log_level": None,
    },
    "fs": {
        "mounts": {"type": None, "path": None, "uri": None, "key_name": None, "enable_recovery": None},
        "root": {"type": None, "uri": None, "key_name": None, "enable_recovery": None},
        "start_dir": None,
        "insecure__keys": {ANY_NAME: None},
    },
    "sgx": {
        "allowed_files": None,
        "cpu_features": {"avx": None, "avx512": None, "amx": None, "mpx": None, "pkru": None},
        "debug": None,
        "edmm_enable": None,
        "enable_stats": None,
        "enclave_size": None,
        "file_check_policy": None,
        "insecure__allow_memfaults_without_exinfo": None,
        "insecure__rpc_thread_num": None,
        "isvprodid": None,
        "isvsvn": None,
        "max_threads": None,
        "preheat_enclave": None,
        "profile": {"enable": None, "mode": None, "with_stack": None, "frequency": None},
        "remote_attestation": None,
        "seal_key": {"flags_mask": None, "xfrm_mask": None, "misc_mask": None},
        "trusted_files": {"uri": None, "sha256": None},
        "use_exinfo": None,
        "vtune_profile": None,
    },
    "sys": {
        "allowed_ioctls": {"request_code": None, "struct": None},
        "brk": {"max_size": None},
        "disallow_subprocesses": None,
        "enable_extra_runtime_domain_names_conf": None,
        "enable_sigterm_injection": None,
        "experimental__enable_flock": None,
        "insecure__allow_eventfd": None,
        "ioctl_structs": {ANY_NAME: None},
        "debug__mock_syscalls": {"name": None, "return": None},
        "stack": {"size": None},
        "fds": {"limit": None},
    },
}


def unknown_keys(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the keys that Gramine 1.9 does not know, sorted.

    Args:
        manifest: The parsed manifest (after its template was filled in).
    """
    return tuple(sorted(set(_unknown(manifest, KNOWN_KEYS, ""))))


def _unknown(value: object, known: Mapping[str, Any] | None, path: str) -> Iterator[str]:
    if known is None:
        return
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, known, path)
        return
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        dotted = f"{path}.{name}" if path else name
        if name in known or ANY_NAME in known:
            yield from _unknown(inner, known.get(name, known.get(ANY_NAME)), dotted)
        else:
            yield dotted
