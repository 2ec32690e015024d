"""Moto's server: S3 as far as drivers use it, with conditional and multipart uploads."""

from __future__ import annotations

import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.services.object_server import ObjectServer
from tests.services.processes import ServiceUnavailableError

ACCESS_KEY_ID = "AKIATESTONLY"
SECRET_ACCESS_KEY = "only-for-tests"
"""Any pair would do: the server doesn't check signatures."""

REGION = "eu-central-1"


class S3Server(ObjectServer):
    service = "s3"
    protocol = "s3"

    def command(self) -> list[str | Path]:
        if find_spec("moto") is None or find_spec("flask_cors") is None:
            raise ServiceUnavailableError("S3 needs the packages moto[s3], flask and flask-cors")
        return [sys.executable, "-m", "moto.server", "-H", self.host, "-p", str(self.port)]

    def options(self, port: int) -> dict[str, Any]:
        return {
            "key": ACCESS_KEY_ID,
            "secret": SECRET_ACCESS_KEY,
            "endpoint_url": f"http://{self.host}:{port}",
            "client_kwargs": {"region_name": REGION},
        }

    def environment(self, port: int) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": f"http://{self.host}:{port}",
        }

    def make_bucket(self, name: str) -> None:
        import boto3

        client = boto3.client(
            "s3",
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            endpoint_url=f"http://{self.host}:{self.port}",
            region_name=REGION,
        )
        with closing(client):
            client.create_bucket(
                Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
            )

    def clear(self) -> None:
        if self.is_running:
            self.resume()
            self.ask("POST", "/moto-api/reset")
