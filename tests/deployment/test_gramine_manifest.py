"""Rendered manifests: valid TOML once filled in, only keys Gramine 1.9 knows, nothing unprotected by accident."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from strongroom.deployment.gramine_keys import KNOWN_KEYS, unknown_keys
from strongroom.deployment.gramine_manifest import Provisioning, render_manifest
from strongroom.deployment.gramine_spark import SparkRuntime
from strongroom.errors import ConfigurationError
from strongroom.workload import Workload, load_workload

CA = "-----BEGIN CERTIFICATE-----\n"


def fill_in(template: str) -> dict[str, Any]:
    """What gramine-manifest does with our templates, with one path for every loop."""
    text = re.sub(
        r"\{% for path in python\.get_sys_path\(.*?\) %\}\n(.*?)\{% endfor %\}\n", r"\1", template, flags=re.S
    )
    text = text.replace("{{ gramine.runtimedir() }}", "/usr/lib/gramine/runtime/glibc")
    text = text.replace("{{ '/' if path.is_dir() else '' }}", "/").replace("{{ path }}", "/usr/lib/python3")
    assert "{{" not in text and "{%" not in text, text
    return tomllib.loads(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "serve.py").write_text("print('serving')\n")
    (tmp_path / "app" / "model.py").write_text("pass\n")
    (tmp_path / "ca.pem").write_text(CA)
    return tmp_path


def workload(folder: Path, **changes: str) -> Workload:
    values = {
        "name": '"serving"',
        "command": '["python3", "app/serve.py", "--port", "8500"]',
        "product_id": "7",
        "security_version": "3",
        "trusted_files": '["app"]',
        "environment": '{ OMP_NUM_THREADS = "2", GREETING = "say \\"hi\\"" }',
        "keys": '{ model = "serving/key/model", data = "serving/key/data" }',
        "mounts": '[{ path = "models/resnet", key = "model", mode = "read" }]',
        "resources": '{ memory = "3GiB", threads = 64 }',
    }
    file = folder / "serving.toml"
    file.write_text("\n".join(f"{name} = {value}" for name, value in (values | changes).items()))
    return load_workload(file)


def tensorflow(folder: Path) -> Workload:
    return workload(
        folder,
        command='["tensorflow_model_server", "--port=8500", "--ssl_config_file=/work/ssl.cfg"]',
        mounts='[{ path = "models", key = "model", mode = "read" }, '
        '{ path = "ssl.cfg", key = "model", mode = "read" }]',
        trusted_files='["ca.pem"]',
    )


PROVISIONED = Provisioning("ca.pem")


def test_python_application_with_provisioned_key(folder: Path) -> None:
    manifest = fill_in(render_manifest(workload(folder), provisioning=PROVISIONED))
    assert manifest["libos"]["entrypoint"] == "/usr/bin/python3"
    assert manifest["loader"]["argv"] == ["python3", "app/serve.py", "--port", "8500"]
    environment = manifest["loader"]["env"]
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["GREETING"] == 'say "hi"'
    assert environment["LD_PRELOAD"] == "libsecret_prov_attest.so"
    assert environment["SECRET_PROVISION_CONSTRUCTOR"] == "1"
    assert environment["SECRET_PROVISION_SET_KEY"] == "model"
    assert environment["SECRET_PROVISION_CA_CHAIN_PATH"] == "/work/ca.pem"
    assert environment["SECRET_PROVISION_SERVERS"] == {"passthrough": True}
    encrypted = [mount for mount in manifest["fs"]["mounts"] if mount.get("type") == "encrypted"]
    assert encrypted == [
        {"path": "/work/models/resnet", "uri": "file:models/resnet", "type": "encrypted", "key_name": "model"}
    ]
    sgx = manifest["sgx"]
    assert (sgx["isvprodid"], sgx["isvsvn"], sgx["max_threads"], sgx["enclave_size"]) == (7, 3, 64, "4096M")
    assert sgx["remote_attestation"] == "dcap"
    assert sgx["debug"] is False
    assert "allowed_files" not in sgx


def test_tensorflow_serving_with_provisioned_key(folder: Path) -> None:
    template = render_manifest(tensorflow(folder), provisioning=PROVISIONED)
    assert "python" not in template
    manifest = fill_in(template)
    assert manifest["libos"]["entrypoint"] == "/usr/bin/tensorflow_model_server"
    encrypted = {mount["uri"] for mount in manifest["fs"]["mounts"] if mount.get("type") == "encrypted"}
    assert encrypted == {"file:models", "file:ssl.cfg"}  # the bound paths that `strongroom seal` writes
    assert {"path": "/usr/bin/tensorflow_model_server", "uri": "file:/usr/bin/tensorflow_model_server"} in manifest[
        "fs"
    ]["mounts"]


def test_room_that_fetches_its_keys_itself_sees_ciphertext(folder: Path) -> None:
    manifest = fill_in(render_manifest(workload(folder)))
    assert "LD_PRELOAD" not in manifest["loader"]["env"]
    assert not [mount for mount in manifest["fs"]["mounts"] if mount.get("type") == "encrypted"]
    assert manifest["sgx"]["allowed_files"] == ["file:models/resnet", "file:models/resnet/", "file:room/"]


@pytest.mark.parametrize("provisioning", [None, PROVISIONED])
@pytest.mark.parametrize("make", [workload, tensorflow])
def test_only_keys_gramine_1_9_knows(folder: Path, make: Any, provisioning: Provisioning | None) -> None:
    assert unknown_keys(fill_in(render_manifest(make(folder), provisioning=provisioning))) == ()


def test_every_trusted_file_is_pinned_to_its_digest(folder: Path) -> None:
    manifest = fill_in(render_manifest(workload(folder), provisioning=PROVISIONED))
    pinned = {item["uri"]: item["sha256"] for item in manifest["sgx"]["trusted_files"] if isinstance(item, dict)}
    assert pinned == {
        f"file:{name}": hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("app/serve.py", "app/model.py", "ca.pem")
    }


def test_changed_code_gives_another_manifest(folder: Path) -> None:
    before = render_manifest(workload(folder))
    (folder / "app" / "serve.py").write_text("print('changed')\n")
    assert render_manifest(workload(folder)) != before


def test_program_arguments_and_environment_are_not_left_to_the_host(folder: Path) -> None:
    template = render_manifest(workload(folder), provisioning=PROVISIONED)
    assert "insecure__" not in template
    passed = [name for name, value in fill_in(template)["loader"]["env"].items() if isinstance(value, dict)]
    assert passed == ["SECRET_PROVISION_SERVERS"]


def test_a_host_cannot_bring_its_own_definition_to_the_code_that_was_measured(folder: Path) -> None:
    """With another definition the same enclave would seal under other keys, for another broker."""
    manifest = fill_in(render_manifest(workload(folder)))
    environment = manifest["loader"]["env"]
    assert not [name for name, value in environment.items() if isinstance(value, dict)]
    settings = {name: value for name, value in environment.items() if name.startswith("STRONGROOM_")}
    assert settings == {
        "STRONGROOM_WORKLOAD": "/work/serving.toml",
        "STRONGROOM_ROOM": "/room",
        "STRONGROOM_STORAGE": "/work",
    }
    digest = hashlib.sha256((folder / "serving.toml").read_bytes()).hexdigest()
    assert {"uri": "file:serving.toml", "sha256": digest} in manifest["sgx"]["trusted_files"]
    assert {"path": "/work/serving.toml", "uri": "file:serving.toml"} in manifest["fs"]["mounts"]


def test_a_definition_that_trusts_itself_is_pinned_once(folder: Path) -> None:
    manifest = fill_in(render_manifest(workload(folder, trusted_files='["app", "serving.toml"]')))
    pinned = [item for item in manifest["sgx"]["trusted_files"] if isinstance(item, dict)]
    assert [item["uri"] for item in pinned].count("file:serving.toml") == 1


def test_host_arguments_are_let_in_only_where_the_workload_says_so(folder: Path) -> None:
    command = '["/usr/bin/score", "--fast"]'
    manifest = fill_in(render_manifest(workload(folder, command=command, insecure_host_arguments="true")))
    assert manifest["loader"]["insecure__use_cmdline_argv"] is True
    assert "argv" not in manifest["loader"]  # Gramine does not start with both
    manifest = fill_in(render_manifest(workload(folder, command=command)))
    assert "insecure__use_cmdline_argv" not in manifest["loader"]


def test_the_host_adds_arguments_to_python_but_never_says_what_it_runs(folder: Path) -> None:
    loader = fill_in(render_manifest(workload(folder, insecure_host_arguments="true")))["loader"]
    assert "insecure__use_cmdline_argv" not in loader  # `-c CODE` would be one of them
    assert loader["argv"][1] == "app/serve.py"
    assert loader["env"]["STRONGROOM_ARGUMENTS"] == {"passthrough": True}
    loader = fill_in(render_manifest(workload(folder)))["loader"]
    assert "STRONGROOM_ARGUMENTS" not in loader["env"]


def test_a_virtual_environment_is_found_and_measured(folder: Path) -> None:
    manifest = fill_in(render_manifest(workload(folder), interpreter="/opt/strongroom/bin/python3"))
    assert manifest["loader"]["argv"][:2] == ["/opt/strongroom/bin/python3", "app/serve.py"]
    assert "file:/opt/strongroom/pyvenv.cfg" in manifest["sgx"]["trusted_files"]
    places = {"path": "/opt/strongroom/pyvenv.cfg", "uri": "file:/opt/strongroom/pyvenv.cfg"}
    assert places in manifest["fs"]["mounts"]


def test_java_is_measured_and_what_leaves_memory_is_sealed_to_the_enclave(folder: Path) -> None:
    manifest = fill_in(render_manifest(workload(folder), spark=SparkRuntime()))
    trusted = {item if isinstance(item, str) else item["uri"] for item in manifest["sgx"]["trusted_files"]}
    assert {"file:/usr/lib/jvm/java-17-openjdk-amd64/", "file:/etc/java-17-openjdk/", "file:/etc/passwd"} <= trusted
    mounts = {mount["path"]: mount for mount in manifest["fs"]["mounts"]}
    assert mounts["/run/strongroom"]["type"] == "encrypted"
    assert mounts["/run/strongroom"]["key_name"] == "_sgx_mrenclave"
    assert mounts["/var/spark"] == {"path": "/var/spark", "type": "tmpfs"}
    assert manifest["sgx"]["use_exinfo"] is True
    assert manifest["loader"]["env"]["STRONGROOM_SPARK_CALL"] == {"passthrough": True}
    assert "file:/run/strongroom/" not in manifest["sgx"]["allowed_files"]
    assert not unknown_keys(manifest)


def test_only_spark_s_pods_listen_to_spark(folder: Path) -> None:
    text = render_manifest(workload(folder))
    assert "STRONGROOM_SPARK_CALL" not in text
    assert "use_exinfo" not in text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"command": '["python3", "app/serve.py", "{{ env.SECRET }}"]'}, "manifest.text"),
        ({"environment": '{ X = "{% raw %}" }'}, "manifest.text"),
        ({"command": '["bin/server"]'}, "manifest.program"),
        ({"environment": '{ LD_PRELOAD = "mine.so" }'}, "manifest.environment"),
        ({"mounts": "[]"}, "manifest.one_key"),
        (
            {
                "mounts": '[{ path = "a", key = "model", mode = "read" }, { path = "b", key = "data", mode = "read" }]',
            },
            "manifest.one_key",
        ),
    ],
)
def test_refuses(folder: Path, changes: dict[str, str], code: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        render_manifest(workload(folder, **changes), provisioning=PROVISIONED)
    assert refusal.value.code == code


def test_refuses_a_ca_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigurationError):
        render_manifest(workload(folder), provisioning=Provisioning("absent.pem"))


def test_refuses_a_file_name_the_template_would_act_upon(folder: Path) -> None:
    (folder / "app" / "{{ x }}.py").touch()
    with pytest.raises(ConfigurationError) as refusal:
        render_manifest(workload(folder))
    assert refusal.value.code == "manifest.text"


# Found in manifests of Gramine 1.3 and before; each is gone or renamed in 1.9.
OLD = """
loader.entrypoint.uri = "file:x"
loader.pal_internal_mem_size = "64M"
sgx.thread_num = 16
sgx.nonpie_binary = true
sgx.ra_client_spid = ""
sgx.ra_client_linkable = false
sgx.protected_files = ["file:x"]
sgx.enclave_size = "1G"
sgx.seal_key.flags_mask = "0x"
fs.mounts = [{ path = "/x", uri = "file:x", typo = "encrypted" }]
[loader.env]
A = { passthrough = true, value = "x" }
B = { pass_through = true }
"""


def test_old_and_misspelt_keys_are_named() -> None:
    assert unknown_keys(tomllib.loads(OLD)) == (
        "fs.mounts.typo",
        "loader.env.B.pass_through",
        "loader.pal_internal_mem_size",
        "sgx.nonpie_binary",
        "sgx.protected_files",
        "sgx.ra_client_linkable",
        "sgx.ra_client_spid",
        "sgx.thread_num",
    )


def test_the_table_knows_what_the_documentation_shows() -> None:
    assert {"libos", "loader", "fs", "sgx", "sys"} == set(KNOWN_KEYS)
    shown = {
        "sgx": {"trusted_files": ["file:x", {"uri": "file:x", "sha256": "00"}], "allowed_files": ["file:y"]},
        "sys": {"stack": {"size": "4M"}, "enable_sigterm_injection": True},
        "fs": {"insecure__keys": {"default": "00"}},
    }
    assert unknown_keys(shown) == ()
