"""`verify` accepts what an export wrote, and says in a line what was done to it since."""

import gzip
import hashlib
import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import SynthGainError
from pipeline.export.compression import encode_pngs
from pipeline.export.readers import Unreadable, decode_png
from pipeline.export.shards import FORMATS
from pipeline.export.verify import find_exports, verify

from .conftest import synthetic_images, tree

ROOT = Path(__file__).parents[2]


def reseal(folder):
    """Bring hashes up to date, as somebody would who wants a change to go unnoticed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for path, facts in manifest["files"].items():
        content = (folder / path).read_bytes()
        facts |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_manifest(folder, manifest)


def write_manifest(folder, manifest):
    from pipeline.export.card import card
    from pipeline.export.croissant import croissant

    def dump(values):
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    (folder / "manifest.json").write_text(dump(manifest))
    (folder / "README.md").write_text(card(manifest))
    (folder / "croissant.json").write_text(dump(croissant(manifest)))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


@pytest.mark.parametrize("name", FORMATS)
def test_a_fresh_export_is_sound_and_stays_as_it_is(export, name):
    folder = export(formats=[name], shard_size=8, real=synthetic_images(counts=(1, 2, 1), seed=5)) / name
    before = tree(folder)
    assert verify(folder) == []
    assert tree(folder) == before


@pytest.mark.parametrize("name", FORMATS)
def test_every_flipped_byte_is_found(export, name):
    folder = export(formats=[name], shard_size=8) / name
    rng = np.random.default_rng(0)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        at = int(rng.integers(len(content)))
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        assert verify(folder), path
        path.write_bytes(content)
    assert verify(folder) == []


def change_a_pixel(folder):
    match folder.name:
        case "idx":
            path = folder / "train-images-idx3-ubyte"
            content = bytearray(path.read_bytes())
            content[20] ^= 1
            path.write_bytes(content)
        case "idx_gz":
            path = folder / "train-images-idx3-ubyte.gz"
            content = bytearray(gzip.decompress(path.read_bytes()))
            content[20] ^= 1
            path.write_bytes(gzip.compress(bytes(content)))
        case "png":
            path = next(iter(sorted(folder.rglob("*.png"))))
            path.write_bytes(encode_pngs(np.zeros((1, 8, 8), dtype=np.uint8))[0])
        case "npz":
            path = folder / "train.npz"
            with np.load(path) as arrays:
                changed = {name: arrays[name].copy() for name in arrays.files}
            changed["images"][0, 0, 0] ^= 1
            np.savez_compressed(path, **changed)
        case "parquet" | "arrow":
            path = folder / f"train.{folder.name}"
            if folder.name == "parquet":
                table = pq.read_table(path)
            else:
                with pa.ipc.open_file(path) as reader:
                    table = reader.read_all()
            rows = table.to_pylist()
            rows[0]["image"]["bytes"] = encode_pngs(np.zeros((1, 8, 8), dtype=np.uint8))[0]
            changed = pa.Table.from_pylist(rows, schema=table.schema)
            if folder.name == "parquet":
                pq.write_table(changed, path)
            else:
                with pa.ipc.new_file(path, table.schema) as writer:
                    writer.write_table(changed)
        case "webdataset":
            retar(folder / "train.tar", lambda name, content: black(name, content, "0-000000.png"))


def black(name, content, target):
    return encode_pngs(np.zeros((1, 8, 8), dtype=np.uint8))[0] if name == target else content


def retar(path, change):
    with tarfile.open(path) as archive:
        members = [(each, archive.extractfile(each).read()) for each in archive]
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            changed = change(member.name, content)
            member.size = len(changed)
            archive.addfile(member, io.BytesIO(changed))


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_pixel_is_found_though_all_hashes_of_files_are_right(export, name):
    folder = export(formats=[name]) / name
    change_a_pixel(folder)
    reseal(folder)
    found = verify(folder)
    assert found and any("pixel_sha256" in line for line in found)
    assert not any("changed (SHA-256" in line for line in found)


def test_a_label_that_the_table_does_not_have_is_found(export):
    folder = export(formats=["idx"]) / "idx"
    labels = bytearray((folder / "train-labels-idx1-ubyte").read_bytes())
    labels[8:10] = bytes([9, 2])  # the samples are 0-000000 and 2-000000, or so
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    reseal(folder)
    found = verify(folder)
    assert any("label 9; 3 classes allow 0..2" in line for line in found)
    assert any("the manifest's counts says" in line for line in found)


def test_a_missing_and_a_foreign_file_are_found(export):
    folder = export(formats=["png"]) / "png"
    gone = sorted(folder.rglob("*.png"))[0]
    gone.unlink()
    (folder / "mine.txt").write_text("mine")
    found = verify(folder)
    assert f"{gone.relative_to(folder).as_posix()}: missing" in found
    assert "mine.txt: in the folder, but not in SHA256SUMS" in found


@pytest.mark.parametrize(
    "escape", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", "link/secret", "link"]
)
def test_a_path_that_leads_out_is_named_and_not_opened(export, tmp_path, escape, monkeypatch):
    folder = export(formats=["parquet"]) / "parquet"
    (tmp_path / "out/secret").write_text("secret")
    if "link" in escape:
        (folder / "link").symlink_to(tmp_path / "out" / ("secret" if escape == "link" else "."))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][escape] = {"bytes": 6, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    opened = []
    real_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: (opened.append(str(self)), real_open(self, *a, **k))[1]
    )
    found = verify(folder)
    assert any(line.startswith(repr(escape)) and line.endswith("it was not opened") for line in found), found
    assert not [path for path in opened if "secret" in path or "hostname" in path]


def test_a_manifest_of_a_newer_schema_asks_for_a_newer_version(export):
    folder = export(formats=["npz"]) / "npz"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 4, "surprise": True}))
    (line,) = verify(folder)
    assert (
        line.startswith("manifest.json: schema_version 4 is newer than 3") and "install a newer one" in line
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "many"}, "manifest.json: images: 'many' is not of type 'integer'"),
        (
            {"image_size": [100_000, 100_000]},
            "manifest.json: image_size.0: 100000 is greater than the maximum",
        ),
        ({"counts": [21]}, "manifest.json: counts has 1 numbers for 3 classes"),
        ({"counts": [1, 1, 1]}, "manifest.json: counts add up to 3 synthetic and 0 real images"),
        ({"synthetic": False}, "manifest.json: synthetic: True was expected"),
        ({"schema": "other"}, "manifest.json: not of an export of SynthGain"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_named(export, change, message):
    folder = export(formats=["parquet"]) / "parquet"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    assert any(line.startswith(message) for line in verify(folder)), verify(folder)


def test_a_card_or_croissant_of_another_data_set_is_found(export):
    folder = export(formats=["parquet"]) / "parquet"
    for name in ("README.md", "croissant.json"):
        (folder / name).write_text((folder / name).read_text().replace("MNIST", "ImageNet"))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
    assert verify(folder) == [
        "README.md: not the one of this manifest",
        "croissant.json: not the one of this manifest",
    ]


def test_many_findings_of_a_kind_are_counted(export):
    folder = export(synthetic_images(counts=(30, 30)), formats=["png"]) / "png"
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    found = verify(folder)
    assert sum("changed (SHA-256" in line for line in found) == 10 and "hash: 50 more" in found


def bomb(width=60_000, height=60_000):
    """A PNG that would unpack to 3.6 GB."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (header, pixels, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bomb(), r"60000×60000|damaged PNG"),
        (bomb(9, 8), r"a PNG of 9×8 pixels"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (b"", "damaged PNG"),
        (bytes(10_000), "a PNG of 10000 bytes for 8×8 pixels"),
    ],
)
def test_a_png_bomb_or_a_wrong_size_is_not_unpacked(content, message):
    with pytest.raises(Unreadable, match=message):
        decode_png(content, (8, 8))


@pytest.mark.parametrize("name", ["images", "labels", "ids"])
def test_an_npz_bomb_is_not_unpacked(export, monkeypatch, name):
    folder = export(formats=["npz"]) / "npz"
    with np.load(folder / "train.npz") as arrays:
        changed = {key: arrays[key] for key in arrays.files}
    changed[name] = np.zeros(10_000_000, dtype=np.uint8)
    np.savez_compressed(folder / "train.npz", **changed)
    reseal(folder)
    read, lengths = np.lib.format.read_array, []

    def noted(*arguments, **options):
        lengths.append(len(array := read(*arguments, **options)))
        return array

    monkeypatch.setattr(np.lib.format, "read_array", noted)
    found = verify(folder)
    assert any(f"{name}.npy has 10000128 bytes; up to" in line for line in found), found
    assert max(lengths, default=0) <= 21


def test_a_folder_without_an_export_is_one_line(tmp_path):
    with pytest.raises(SynthGainError, match="holds no export"):
        find_exports(tmp_path)
    with pytest.raises(SynthGainError, match="no such folder"):
        find_exports(tmp_path / "nowhere")


def synthgain(*arguments, code="import synthgain.app; synthgain.app.main()"):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_checks_each_format_without_torch_or_dvc(export):
    out = export(formats=FORMATS)
    code = (
        "import sys, synthgain.app\ntry: synthgain.app.main()\n"
        "finally: print(sorted({'torch', 'dvc', 'mlflow', 'torchvision'} & set(sys.modules)))"
    )
    done = synthgain("verify", out, code=code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{out / name}: ok\n" for name in FORMATS) + "[]\n"
    (out / "idx/mine\x1b[2J.txt").write_text("")
    done = synthgain("verify", out)
    assert done.returncode == 1
    assert (
        done.stdout.splitlines()[0]
        == f"{out / 'idx'}: mine\\x1b[2J.txt: in the folder, but not in SHA256SUMS"
    )
    assert synthgain("verify", out / "nothing").returncode == 1
    assert synthgain("verify").returncode == 2
