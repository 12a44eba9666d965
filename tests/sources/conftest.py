import gzip
import hashlib
import http.server
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from pipeline.sources import published


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX format as its publisher describes it: magic number, big-endian sizes, raw bytes."""
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def idx_gz(array: np.ndarray) -> bytes:
    return gzip.compress(idx_bytes(array), mtime=0)


@pytest.fixture
def write_idx() -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, array: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx_gz(array) if path.suffix == ".gz" else idx_bytes(array))

    return write


class TinyData:
    """Ten train and five test images of 28 × 28, asymmetric, and the four files that publish them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.images = {n: rng.integers(0, 256, (count, 28, 28), dtype=np.uint8) for n, count in self.sizes()}
        self.labels = {n: np.arange(count, dtype=np.uint8) % 10 for n, count in self.sizes()}
        self.files = {}
        for split, prefix in (("train", "train"), ("test", "t10k")):
            self.files[f"{prefix}-images-idx3-ubyte.gz"] = idx_gz(self.images[split])
            self.files[f"{prefix}-labels-idx1-ubyte.gz"] = idx_gz(self.labels[split])

    @staticmethod
    def sizes() -> tuple[tuple[str, int], ...]:
        return (("train", 10), ("test", 5))

    def put(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder

    def reader(self, base: Any, addresses: list[str]) -> Any:
        """A torchvision class that differs from the published one in checksums and addresses only."""
        resources = [(name, hashlib.md5(content).hexdigest()) for name, content in self.files.items()]
        return type("Tiny" + base.__name__, (base,), {"resources": resources, "mirrors": addresses})


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyData:
    """Source `mnist` stands for the tiny data set, published nowhere."""
    data = TinyData()
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    entry = published.PublishedDataset(data.reader(datasets.MNIST, []), tuple("0123456789"), "MNIST")
    monkeypatch.setitem(published.DATASETS, "mnist", entry)
    return data


class MirrorServer:
    """A server on loopback; `answers` maps the first part of a path to how its files are given."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        stop = self.stop = threading.Event()
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                _, kind, *_, name = self.path.split("/")
                content = files.get(name, b"")
                if kind == "hanging":
                    stop.wait(30)
                    return
                if kind == "missing":
                    self.send_error(404)
                    return
                if kind == "altered":
                    content = content[:-1] + bytes([content[-1] ^ 1])
                whole = len(content)
                if kind in ("truncated", "breaking", "stalling"):
                    content = content[: len(content) // 2]
                self.send_response(200)
                if kind != "lengthless":
                    promised = whole if kind in ("breaking", "stalling") else len(content)
                    self.send_header("Content-Length", str(promised))
                self.end_headers()
                if kind == "slow":
                    for start in range(0, len(content), len(content) // 4 + 1):
                        self.wfile.write(content[start : start + len(content) // 4 + 1])
                        self.wfile.flush()
                        time.sleep(0.05)
                else:
                    self.wfile.write(content)
                if kind == "stalling":
                    self.wfile.flush()
                    stop.wait(30)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{kind}/"

    def close(self) -> None:
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(tiny: TinyData) -> Iterator[MirrorServer]:
    mirror = MirrorServer(tiny.files)
    yield mirror
    mirror.close()
