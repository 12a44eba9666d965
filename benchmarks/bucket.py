"""A data set that no disk has to hold: a generator's images, drawn and put to an object store shard by shard.

python benchmarks/bucket.py [--images 1000000] [--kills 5] [--workers 2] [--model generator.safetensors]

The same export twice, to two buckets of moto's server (S3's protocol on this machine, objects in its memory): once in
peace, once killed at random moments and started again. Both must end with the same objects. Without `--model`, the
generator has the layers of params.yaml and is not trained: its images compress badly.
"""

import argparse
import hashlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
from export import finish, untrained_generator


@contextmanager
def s3_server(log: Path):
    """A client of a server of its own, which writes a line for each request into `log`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("w") as lines:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=lines, stderr=lines)
        try:
            for _ in range(600):
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                time.sleep(0.1)
            os.environ |= {
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "of nobody",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            yield boto3.client("s3")
        finally:
            process.terminate()
            process.wait()


def objects(client, bucket: str) -> dict[str, tuple[int, str]]:
    """Bytes and SHA-256 of each object; without pyarrow's marks of folders."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", []) if each["Size"]]
    bodies = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    return {key: (len(body), hashlib.sha256(body).hexdigest()) for key, body in bodies.items()}


def main(images: int, kills: int, workers: int, model: Path | None) -> None:
    """Export twice, and compare."""
    with tempfile.TemporaryDirectory() as temporary, s3_server(Path(temporary) / "requests") as client:
        folder = Path(temporary)
        model = model.resolve() if model else untrained_generator(folder / "generator.safetensors")
        entry = "import synthgain.app; synthgain.app.main()"
        command = [sys.executable, "-c", entry, "export", str(model), "--per-class", str(images // 10)]
        command += ["--workers", str(workers), "--out"]

        def requests() -> int:
            return (folder / "requests").read_text().count("HTTP/1.1")

        for bucket in ("quiet", "killed"):
            client.create_bucket(Bucket=bucket)
        before, start = requests(), time.perf_counter()
        peaks = finish([*command, "s3://quiet/digits"], folder)
        seconds = time.perf_counter() - start
        asked = requests() - before
        quiet = objects(client, "quiet")
        size = sum(size for size, _ in quiet.values())
        print(
            f"{images:,} images: {seconds:.0f} s, {images / seconds:,.0f} images/s; peak MB of each process:"
            f" {', '.join(map(str, peaks))}\n{len(quiet)} objects, {size:,} bytes ({size / images:.0f} an image),"
            f" {asked} requests; manifest {quiet['digits/parquet/manifest.json'][0]:,} bytes",
            flush=True,
        )
        start, killed = time.perf_counter(), 0
        while killed < kills:
            moment = 5 + random.uniform(0.02, 0.18) * seconds  # five of them come before the end
            if finish([*command, "s3://killed/digits"], folder, kill_after=moment):
                break  # at its end before
            killed += 1
            print(f"killed after {moment:.0f} s", flush=True)
        else:
            finish([*command, "s3://killed/digits"], folder)
        same = objects(client, "killed") == quiet
        lasted = time.perf_counter() - start
        print(
            f"killed {killed} times: {lasted:.0f} s, {'the same listing and bytes' if same else 'OTHER OBJECTS'}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    main(options.images, options.kills, options.workers, options.model)
