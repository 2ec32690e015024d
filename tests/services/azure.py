"""Azurite: Azure Blob Storage as far as drivers use it, run by node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.services.object_server import ObjectServer
from tests.services.processes import ServiceUnavailableError

VERSION = "3.37.0"

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those that all emulators of Azure have; they open nothing else."""

_ROOT = Path(__file__).resolve().parents[2]
_MAIN = Path("dist/src/blob/main.js")


class AzureServer(ObjectServer):
    service = "azure"
    protocol = "az"

    def command(self) -> list[str | Path]:
        return [
            _find_node(),
            _find_azurite() / _MAIN,
            *("--blobHost", self.host),
            *("--blobPort", str(self.port)),
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",  # the driver is newer than the newest emulator
        ]

    def options(self, port: int) -> dict[str, Any]:
        return {"connection_string": self._connection_string(port)}

    def environment(self, port: int) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self._connection_string(port)}

    def make_bucket(self, name: str) -> None:
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(
            self._connection_string(self.port), name
        ) as client:
            client.create_container()

    def clear(self) -> None:
        """Do nothing: the objects are few, and a start takes longer than a test."""

    def _connection_string(self, port: int) -> str:
        endpoint = f"http://{self.host}:{port}/{ACCOUNT}"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={endpoint};"
        )


def _find_node() -> str:
    node = shutil.which("node")
    if node is None:
        raise ServiceUnavailableError("Azure needs node, which is not on PATH")
    return node


def _find_azurite() -> Path:
    """Return the directory that ``LTM_AZURITE`` names, else the repository's, else npm's own."""
    named = os.environ.get("LTM_AZURITE")
    if named is not None:
        candidates = [Path(named)]
    else:
        candidates = [_ROOT / "node_modules" / "azurite"]
        if program := shutil.which("azurite"):  # a link to dist/src/azurite.js
            candidates.append(Path(program).resolve().parents[2])
        candidates += [directory / "azurite" for directory in _global_packages()]
    for candidate in candidates:
        if (candidate / _MAIN).is_file():
            return candidate.resolve()
    raise ServiceUnavailableError(
        f"there is no azurite in {' or '.join(map(str, candidates))}: get it by `npm install "
        f"--no-save --prefix {_ROOT} azurite@{VERSION}`, or let LTM_AZURITE name its directory"
    )


def _global_packages() -> list[Path]:
    npm = shutil.which("npm")
    if npm is None or (_ROOT / "node_modules" / "azurite").is_dir():
        return []
    answer = subprocess.run(
        [npm, "root", "--global"], capture_output=True, text=True, check=False, timeout=60
    )
    return [Path(answer.stdout.strip())] if answer.returncode == 0 else []
