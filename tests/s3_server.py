"""An S3 server on this machine: moto's, which speaks the real protocol."""

import contextlib
import socket
import subprocess
import sys
import time


@contextlib.contextmanager
def s3_server():
    """The address of an S3 server without a bucket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def credentials(server):
    """What a client of that server needs in its environment."""
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-nobody",
        "AWS_ENDPOINT_URL": server,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def client(server):
    """The store's own library."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server,
        aws_access_key_id="key",
        aws_secret_access_key="a-secret-of-nobody",
        region_name="us-east-1",
    )
