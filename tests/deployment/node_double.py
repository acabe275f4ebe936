"""A node of a cluster in a folder: containers run as processes, and what a kubelet would mount is a folder here."""

import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

Objects = list[dict[str, Any]]
DEADLINE_S = 600
PYTHON = Path(sys.executable)


class NodeDouble:
    """Runs pods of rendered objects.

    Args:
        folder: New; everything is below it.
        objects: A cluster.
        image: What containers find at which path of their image.
    """

    def __init__(self, folder: Path, objects: Objects, image: dict[str, Path]) -> None:
        self.folder = folder
        self.objects = objects
        self.image = image
        self.secrets: dict[tuple[str, str], Path] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True)

    def kubectl(self, line: str, cwd: Path) -> None:
        """`kubectl create secret generic`, as a guide says it; other lines are not understood."""
        words = shlex.split(line)
        if words[:3] == ["kubectl", "create", "namespace"]:
            return
        assert words[:2] == ["kubectl", "--namespace"], line
        assert words[3:6] == ["create", "secret", "generic"], line
        namespace, name = words[2], words[6]
        place = self.folder / "secrets" / namespace / name
        place.mkdir(parents=True)
        for word in words[7:]:
            key, _, path = word.removeprefix("--from-file=").rpartition("=")
            source = cwd / path
            for file in sorted(source.iterdir()) if source.is_dir() else [source]:
                kept = place / f".{key or file.name}"
                kept.write_bytes(file.read_bytes())
                (place / (key or file.name)).symlink_to(kept.name)  # as a Secret's volume has it
        self.secrets[namespace, name] = place

    def find(self, kind: str, name: str) -> dict[str, Any]:
        return next(item for item in self.objects if item["kind"] == kind and item["metadata"]["name"] == name)

    def pod(self, kind: str, name: str) -> "PodDouble":
        found = self.find(kind, name)
        claims = {item["metadata"]["name"] for item in found["spec"].get("volumeClaimTemplates", [])}
        return PodDouble(self, found["metadata"]["namespace"], found["spec"]["template"]["spec"], claims)

    def volume(self, namespace: str, volume: dict[str, Any]) -> Path:
        """The folder that a volume is."""
        if "secret" in volume:
            return self.secrets[namespace, str(volume["secret"]["secretName"])]
        if "configMap" in volume:
            place = self.folder / "config" / namespace / str(volume["configMap"]["name"])
            place.mkdir(parents=True, exist_ok=True)
            found = next(
                item
                for item in self.objects
                if (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
                == ("ConfigMap", namespace, volume["configMap"]["name"])
            )
            for name, text in found["data"].items():
                (place / name).write_text(text)
            return place
        if "hostPath" in volume:
            return self.host(volume["hostPath"]["path"])
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim is not None:
            return self._claimed(namespace, str(claim))
        place = self.folder / "empty" / namespace / f"{len(list(self.folder.rglob('empty/*/*')))}-{volume['name']}"
        place.mkdir(parents=True)
        return place

    def host(self, path: str) -> Path:
        """A path of the node itself."""
        place = self.folder / "host" / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _claimed(self, namespace: str, claim: str) -> Path:
        wanted = [
            item["spec"].get("volumeName")
            for item in self.objects
            if item["kind"] == "PersistentVolumeClaim"
            and (item["metadata"]["namespace"], item["metadata"]["name"]) == (namespace, claim)
        ]
        volumes = [item for item in self.objects if item["kind"] == "PersistentVolume"]
        lent = [item["spec"]["hostPath"]["path"] for item in volumes
                if item["metadata"]["name"] in wanted and "hostPath" in item["spec"]]  # fmt: skip
        if lent:
            return self.host(lent[0])
        place = self.folder / "claims" / namespace / claim
        place.mkdir(parents=True, exist_ok=True)
        return place

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(30)


class PodDouble:
    """One pod.

    Args:
        node: Where it runs.
        namespace: Of the pod.
        spec: Of the pod.
        claims: Volumes that its owner makes claims for.
    """

    def __init__(self, node: NodeDouble, namespace: str, spec: dict[str, Any], claims: set[str]) -> None:
        self.node = node
        self.spec = spec
        made = ({"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in claims)
        volumes = [*spec["volumes"], *made]
        self.volumes = {volume["name"]: node.volume(namespace, volume) for volume in volumes}
        self.log = node.folder / f"{namespace}-{spec['containers'][0]['name']}.log"

    def start(self, changes: dict[str, str] | None = None, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Run what sets up, then start the container.

        Args:
            changes: Variables that only a cluster could set this way, such as a port that is free here.
            command: In place of the container's.
        """
        for container in self.spec.get("initContainers", []):
            done = subprocess.run(self._command(container), env=self._environment(container, {}),
                                  capture_output=True, text=True, check=False, timeout=DEADLINE_S)  # fmt: skip
            assert done.returncode == 0, done.stderr
        (container,) = self.spec["containers"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command or self._command(container),
                env=self._environment(container, changes or {}),
                stdout=log,
                stderr=log,
            )
        self.node.processes.append(process)
        return process

    def wait_for(self, probe: str, process: subprocess.Popen[bytes], port: int) -> None:
        """Ask as a kubelet does, until the container says yes."""
        (container,) = self.spec["containers"]
        asked = container[probe]["httpGet"]
        assert asked["scheme"] == "HTTPS"
        context = ssl._create_unverified_context()
        deadline = time.monotonic() + DEADLINE_S
        while True:
            assert process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            try:
                with urllib.request.urlopen(
                    f"https://127.0.0.1:{port}{asked['path']}", context=context, timeout=10
                ) as said:
                    assert said.status == 200
                    return
            except OSError:
                os.sched_yield()

    def drain(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM, and the status within the time that the pod has for it."""
        process.send_signal(signal.SIGTERM)
        slept = self.spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        return process.wait(self.spec["terminationGracePeriodSeconds"] - slept)

    def _places(self, container: dict[str, Any]) -> dict[str, Path]:
        places = dict(self.node.image)
        mounts = sorted(container.get("volumeMounts", []), key=lambda mount: len(mount["mountPath"]))
        for mount in mounts:
            source = self.volumes[mount["name"]] / mount.get("subPath", "")
            path = mount["mountPath"]
            above = next((name for name in places if path.startswith(f"{name}/")), None)
            if above is not None:  # a file in a folder that is mounted too
                inside = places[above] / Path(path).relative_to(above)
                inside.unlink(missing_ok=True)
                inside.hardlink_to(source)
            elif not source.exists():
                source.mkdir(parents=True)
            places[path] = source
        return places

    def _here(self, container: dict[str, Any], text: str) -> str:
        places = self._places(container)
        paths = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
        return re.sub(rf"(?<![\w.-])({paths})(?![\w.-])", lambda found: str(places[found[1]]), text)

    def _command(self, container: dict[str, Any]) -> list[str]:
        program, *arguments = container["command"]
        found = str(PYTHON.parent / program) if program == "strongroom" else program
        return [found, *(self._here(container, argument) for argument in arguments)]

    def _environment(self, container: dict[str, Any], changes: dict[str, str]) -> dict[str, str]:
        told = {entry["name"]: self._here(container, entry["value"]) for entry in container.get("env", [])}
        return {"PATH": f"{PYTHON.parent}:/usr/bin:/bin", **told, **changes}
