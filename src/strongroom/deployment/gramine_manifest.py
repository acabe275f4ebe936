"""Renders a workload as a Gramine manifest template; ``gramine-manifest`` fills it in, ``gramine-sgx-sign`` signs it.

Everything comes from the definition: command, environment, product id and version, and the trusted files, each pinned
to the digest it has now. Storage stays outside, as ciphertext. How its keys come in is one of two ways:

- provisioned: Gramine's preloaded library fetches one key before the program starts, and Gramine itself decrypts the
  encrypted mounts. Any program works unchanged, TensorFlow Serving included.
- by the room: the program is Strongroom's own Python and fetches its keys itself; Gramine passes the ciphertext on.

Source: Gramine documentation, "Manifest syntax" (release 1.9) and "Attestation and Secret Provisioning".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from strongroom.deployment.gramine_spark import CALL_VARIABLE, HOSTS_FOLDERS, SparkRuntime
from strongroom.errors import ConfigurationError
from strongroom.workload.arguments import VARIABLE as ADDED_ARGUMENTS
from strongroom.workload.definition import Workload
from strongroom.workload.files import digest_file, find_trusted

WORK_FOLDER: Final = "/work"
MAX_ENCLAVE_MIB: Final = 1024 * 1024
_PYTHON: Final = ("python", "python3")
_SYSTEM_LIBRARIES: Final = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu")
_LIBRARY_PATH: Final = "/lib:" + ":".join(_SYSTEM_LIBRARIES)
_PRELOADED: Final = "libsecret_prov_attest.so"
_RUNTIME: Final = "{{ gramine.runtimedir() }}"
_TEMPLATE_SIGNS: Final = ("{{", "{%", "{#")
_PASSTHROUGH: Final = "{ passthrough = true }"
ROOM_FOLDER: Final = "/room"


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Keys come from a secret-provisioning server before the program starts.

    Args:
        ca_file: PEM file of the roots that may vouch for the server, relative to the definition's folder; measured.
    """

    ca_file: str


def render_manifest(
    workload: Workload,
    *,
    provisioning: Provisioning | None = None,
    interpreter: str = "/usr/bin/python3",
    spark: SparkRuntime | None = None,
) -> str:
    """Renders the template.

    Args:
        workload: The definition; its trusted files must be there.
        provisioning: How keys come in; None: the program fetches them itself.
        interpreter: Absolute path of Python where the enclave will run.
        spark: Where Java is, for a driver or executor of Spark; None for everything else.

    Returns:
        Text of ``NAME.manifest.template``, to be put beside the definition.

    Raises:
        ConfigurationError: A trusted file is missing; a text would mean something to the template; the program has
            no absolute path; its starter could give Python code to run; or the keys can't be provisioned
            (``manifest.*``, ``workload.trusted_files``).
    """
    program, is_python = _program(workload, interpreter)
    found = find_trusted(workload.folder, _trusted(workload, provisioning))
    if provisioning is None:
        # It says which key seals what and which broker is believed: a definition of the host's own must not count.
        found[workload.file.name] = workload.file
    _refuse_template_signs(workload, [*found, interpreter])
    files = {name: digest_file(path) for name, path in found.items()}
    sections = (
        _about(workload),
        _loader(workload, program, provisioning, spark, is_python=is_python),
        _mounts(workload, files, provisioning, program, spark, is_python=is_python),
        _trusted_lines(files, program, spark, is_python=is_python),
        _sgx(workload, provisioning, spark),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _about(workload: Workload) -> list[str]:
    return [
        f"# {workload.name}: rendered by Strongroom; change the workload file and render again.",
        f"# gramine-manifest {workload.name}.manifest.template {workload.name}.manifest",
        f"# gramine-sgx-sign --manifest {workload.name}.manifest --output {workload.name}.manifest.sgx",
        f"# strongroom workload measure {workload.name}.toml --sigstruct {workload.name}.sig",
    ]


def _loader(
    workload: Workload, program: str, provisioning: Provisioning | None, spark: SparkRuntime | None, *, is_python: bool
) -> list[str]:
    lines = [f"libos.entrypoint = {_text(program)}", _arguments(workload, program, is_python=is_python)]
    environment = {"LD_LIBRARY_PATH": _LIBRARY_PATH, **(spark.environment if spark else {}), **workload.environment}
    if provisioning is not None:
        if set(environment) & {"LD_PRELOAD", "SECRET_PROVISION_CONSTRUCTOR", "SECRET_PROVISION_SET_KEY"}:
            raise ConfigurationError("the environment sets what provisioning needs", code="manifest.environment")
        environment |= {
            "LD_PRELOAD": _PRELOADED,
            "SECRET_PROVISION_CONSTRUCTOR": "1",
            "SECRET_PROVISION_SET_KEY": _one_key(workload),
            "SECRET_PROVISION_CA_CHAIN_PATH": f"{WORK_FOLDER}/{provisioning.ca_file}",
        }
    else:
        environment |= {
            "STRONGROOM_WORKLOAD": f"{WORK_FOLDER}/{workload.file.name}",
            "STRONGROOM_ROOM": ROOM_FOLDER,
            "STRONGROOM_STORAGE": WORK_FOLDER,
        }
    lines += [f"loader.env.{name} = {_text(value)}" for name, value in environment.items()]
    if provisioning is not None:
        # Who says where the server is does not matter: it must show a certificate of the roots that are measured.
        lines.append(f"loader.env.SECRET_PROVISION_SERVERS = {_PASSTHROUGH}")
    if is_python and workload.insecure_host_arguments:
        lines.append(f"loader.env.{ADDED_ARGUMENTS} = {_PASSTHROUGH}  # the workload asks for it")
    if spark is not None:
        lines.append(f"loader.env.{CALL_VARIABLE} = {_PASSTHROUGH}")
    return lines


def _arguments(workload: Workload, program: str, *, is_python: bool) -> str:
    """The line that says the arguments. Gramine takes the manifest's or the host's, never both.

    Who says all of Python's arguments says its code. So Python's are the manifest's, and what the host may add comes
    in a variable (`strongroom.workload.arguments`).
    """
    if is_python or not workload.insecure_host_arguments:
        # By its path, Python finds the folder of libraries that it belongs to.
        first = program if is_python and _environment_file(program) else workload.command[0]
        return f"loader.argv = {_list([first, *workload.command[1:]])}"
    return "loader.insecure__use_cmdline_argv = true  # the workload asks for it"


def _environment_file(interpreter: str) -> str | None:
    """The file by which Python finds the libraries of a virtual environment; None for the system's Python."""
    return None if interpreter.startswith("/usr/") else str(PurePosixPath(interpreter).parents[1] / "pyvenv.cfg")


def _mounts(
    workload: Workload,
    files: Mapping[str, bytes],
    provisioning: Provisioning | None,
    program: str,
    spark: SparkRuntime | None,
    *,
    is_python: bool,
) -> list[str]:
    lines = ["fs.mounts = [", f'  {{ path = "/lib", uri = "file:{_RUNTIME}" }},']
    lines += [f"  {{ path = {_text(path)}, uri = {_text('file:' + path)} }}," for path in (*_SYSTEM_LIBRARIES, program)]
    if is_python:
        if found := _environment_file(program):
            lines.append(f"  {_inline({'path': found, 'uri': 'file:' + found})},")
        lines += [
            f"{{% for path in python.get_sys_path({_text(program)}) %}}",
            '  { path = "{{ path }}", uri = "file:{{ path }}" },',
            "{% endfor %}",
        ]
    lines += [_mount(name) for name in sorted({name.split("/", 1)[0] for name in files})]
    for mount in workload.mounts:
        kind = f', type = "encrypted", key_name = {_text(mount.key)}' if provisioning else ""
        lines.append(_mount(mount.path, kind))
    if provisioning is None:
        lines.append(f'  {{ path = "{ROOM_FOLDER}", uri = "file:room" }},')
    lines += [f"  {_inline(mount)}," for mount in (spark.mounts() if spark else [])]
    return [*lines, '  { path = "/tmp", type = "tmpfs" },', "]", f"fs.start_dir = {_text(WORK_FOLDER)}"]


def _mount(path: str, kind: str = "") -> str:
    return f"  {{ path = {_text(f'{WORK_FOLDER}/{path}')}, uri = {_text('file:' + path)}{kind} }},"


def _trusted_lines(
    files: Mapping[str, bytes], program: str, spark: SparkRuntime | None, *, is_python: bool
) -> list[str]:
    lines = ["sgx.trusted_files = [", f'  "file:{_RUNTIME}/",', f"  {_text('file:' + program)},"]
    folders = (*_SYSTEM_LIBRARIES, *(spark.trusted_folders if spark else ()))
    lines += [f"  {_text(f'file:{path}/')}," for path in folders]
    lines += [f"  {_text(f'file:{path}')}," for path in (spark.trusted_files if spark else ())]
    if is_python:
        if found := _environment_file(program):
            lines.append(f"  {_text('file:' + found)},")
        lines += [
            f"{{% for path in python.get_sys_path({_text(program)}) %}}",
            "  \"file:{{ path }}{{ '/' if path.is_dir() else '' }}\",",
            "{% endfor %}",
        ]
    lines += [
        f'  {{ uri = {_text("file:" + name)}, sha256 = "{digest.hex()}" }},' for name, digest in sorted(files.items())
    ]
    return [*lines, "]"]


def _sgx(workload: Workload, provisioning: Provisioning | None, spark: SparkRuntime | None) -> list[str]:
    lines = [
        'sgx.remote_attestation = "dcap"',
        "sgx.debug = false",
        f'sgx.enclave_size = "{_enclave_mib(workload.resources.memory_mib)}M"',
        f"sgx.max_threads = {workload.resources.threads}",
        f"sgx.isvprodid = {workload.product_id}",
        f"sgx.isvsvn = {workload.security_version}",
        'sgx.file_check_policy = "strict"',
    ]
    if provisioning is None:
        # Ciphertext only: the room authenticates every byte of it itself.
        outside = [f"file:{mount.path}{end}" for mount in workload.mounts for end in ("", "/")]  # file or folder
        hosts = [f"file:{folder}/" for folder in HOSTS_FOLDERS] if spark else []
        lines.append(f"sgx.allowed_files = {_list([*outside, 'file:room/', *hosts])}")
    if spark is not None:
        lines.append("sgx.use_exinfo = true  # Java looks where a fault was, and Gramine ends it otherwise")
    return [
        *lines,
        'sys.stack.size = "8M"',
        "sys.enable_extra_runtime_domain_names_conf = true",
        "sys.enable_sigterm_injection = true",
    ]


def _one_key(workload: Workload) -> str:
    """Provisioning brings one key in a session.

    Raises:
        ConfigurationError: The mounts need none, or several.
    """
    names = {mount.key for mount in workload.mounts}
    if len(names) != 1:
        raise ConfigurationError(
            f"provisioning brings one key, the mounts need {len(names)}",
            code="manifest.one_key",
            hint="let all mounts use one key, or let the program fetch its keys itself (without --provision-ca)",
        )
    return names.pop()


def _trusted(workload: Workload, provisioning: Provisioning | None) -> tuple[str, ...]:
    if provisioning is None or provisioning.ca_file in workload.trusted_files:
        return workload.trusted_files
    return (*workload.trusted_files, provisioning.ca_file)


def _program(workload: Workload, interpreter: str) -> tuple[str, bool]:
    name = workload.command[0]
    if name in _PYTHON:
        return interpreter, True
    if "/" not in name:
        return f"/usr/bin/{name}", False
    if not name.startswith("/"):
        raise ConfigurationError(
            f"the program {name!r} is relative; an enclave starts absolute ones",
            code="manifest.program",
            hint='write "/usr/bin/..." as the first part of `command`',
        )
    return name, False


def _enclave_mib(memory_mib: int) -> int:
    """The next power of two, as SGX wants it.

    Raises:
        ConfigurationError: More than any enclave has.
    """
    size = 256
    while size < memory_mib:
        size *= 2
    if size > MAX_ENCLAVE_MIB:
        raise ConfigurationError(f"an enclave of {size} MiB", code="manifest.memory")
    return size


def _refuse_template_signs(workload: Workload, others: Sequence[str]) -> None:
    texts = [*workload.command, *workload.environment.values(), *others]
    texts += [mount.path for mount in workload.mounts]
    if any(sign in text for text in texts for sign in _TEMPLATE_SIGNS):
        raise ConfigurationError(
            "a text of the workload holds '{{', '{%' or '{#', which the template would act upon", code="manifest.text"
        )


def _inline(table: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {_text(value)}" for name, value in table.items()) + " }"


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are all TOML's."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
