"""What comes from outside is checked in bounded time and memory: plain files only, and sizes before reading."""

import gzip
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.errors import SynthGainError
from pipeline.export.inspect import inspect
from pipeline.export.plain_files import strict_json
from pipeline.export.readers import TOO_MUCH_MEMORY
from pipeline.export.shards import FORMATS
from pipeline.export.verify import verify
from synthgain.app import app

from .conftest import synthetic_images, tree
from .test_verify import reseal, write_manifest

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests/data/v0.1.0/export"


SECONDS = 30  # of the processor: neighbours on a loaded machine make them no more
SECONDS_OF_A_CLOCK = 300  # what waits for ever takes no processor


@pytest.fixture(autouse=True)
def an_answer_within_half_a_minute():
    def give_up(number, frame):
        raise TimeoutError("no answer")

    limits = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, SECONDS_OF_A_CLOCK),
    }
    before = {number: signal.signal(number, give_up) for number in limits}
    for timer, seconds in limits.values():
        signal.setitimer(timer, seconds)
    yield
    for number, (timer, _) in limits.items():
        signal.setitimer(timer, 0)
        signal.signal(number, before[number])


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)
    os.chdir(before)


def a_link_to_zeros(path):
    path.symlink_to("/dev/zero")


def a_link_out(path):
    path.symlink_to("/etc/hostname")


def a_link_to_itself(path):
    path.symlink_to(path.name)


def a_folder(path):
    path.mkdir()


KINDS = (a_pipe, a_socket, a_link_to_zeros, a_link_out, a_link_to_itself, a_folder)


@pytest.mark.parametrize("put", KINDS)
@pytest.mark.parametrize(
    "place", ["README.md", "croissant.json", "SHA256SUMS", "samples.parquet", "train.npz"]
)
def test_what_is_no_plain_file_is_named_and_not_opened(export, put, place):
    folder = export(formats=["npz"]) / "npz"
    (folder / place).unlink()
    put(folder / place)
    assert any(place in line for line in verify(folder))
    if place in ("samples.parquet", "train.npz"):
        with pytest.raises(SynthGainError, match=place):
            inspect(folder, per_class=1)


@pytest.mark.parametrize("put", KINDS)
def test_a_manifest_that_is_no_plain_file_is_not_read(export, put):
    folder = export(formats=["npz"]) / "npz"
    (folder / "manifest.json").unlink()
    put(folder / "manifest.json")
    (line,) = verify(folder)
    assert line.startswith("manifest.json: cannot be read ("), line


@pytest.mark.parametrize("put", [a_pipe, a_socket, a_link_to_zeros])
def test_what_lies_beside_the_files_is_named(export, put):
    folder = export(formats=["png"]) / "png"
    put(folder / "cat_s/more")
    assert any(line.startswith("cat_s/more: a ") for line in verify(folder)), verify(folder)


@pytest.mark.parametrize("put", [a_pipe, a_link_to_zeros])
def test_a_picture_that_is_no_plain_file_is_not_opened(export, put):
    folder = export(formats=["png"]) / "png"
    path = sorted(folder.rglob("*.png"))[0]
    path.unlink()
    put(path)
    found = verify(folder)
    assert any(path.name in line and "it was not opened" in line for line in found), found
    with pytest.raises(SynthGainError, match=path.name):
        inspect(folder, per_class=100)


def test_a_file_of_labelled_images_that_is_a_pipe_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(SynthGainError, match="not a plain file"):
        inspect(tmp_path / "x.npz", per_class=1)
    with pytest.raises(SynthGainError, match="not a plain file"):
        inspect(Path("/dev/zero"), per_class=1)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_terabytes_is_not_read(export, name):
    """A sparse file takes no room; its hash would take hours."""
    folder = export(formats=[name]) / name
    manifest = json.loads((folder / "manifest.json").read_text())
    largest = max(manifest["files"], key=lambda path: manifest["files"][path]["bytes"])
    with (folder / largest).open("r+b") as file:
        file.truncate(10**12)
    manifest["files"][largest]["bytes"] = 10**12
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = verify(folder)
    assert any(line.startswith(f"{largest}: 1,000,000,000,000 bytes; 21 images need up to") for line in found)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "README.md", "croissant.json"])
def test_a_text_of_terabytes_is_not_read(export, name):
    folder = export(formats=["npz"]) / "npz"
    with (folder / name).open("r+b") as file:
        file.truncate(10**12)
    assert any(name in line and "1,000,000,000,000 bytes" in line for line in verify(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["x"] * 500_000}, "class_names: 500,000 are listed; up to 10,000 are checked"),
        (
            {"files": {f"f{n}": {"bytes": 1, "sha256": "0" * 64} for n in range(200_001)}},
            "files: 200,001 are listed; up to 200,000 are checked",
        ),
        ({"counts": ["x"] * 500_000}, "counts.0: 'x' is not of type 'integer'"),
        ({"images": 10**400}, "images: found 1000"),
        ({"images": 21.0}, "images: found 21.0; a whole number is needed"),
        ({"shards": 1.0}, "shards: found 1.0; a whole number is needed"),
        ({"counts": [9.0, 5, 7]}, "counts: found 9.0; a whole number is needed"),
        ({"schema_version": 1}, "schema_version: found 1; versions 2 to 3 are known"),
        ({"schema_version": True}, "schema_version: found True; versions 2 to 3 are known"),
        ({"schema_version": -3}, "schema_version: found -3; versions 2 to 3 are known"),
        ({"schema_version": "3"}, "schema_version: found 3; versions 2 to 3 are known"),
    ],
)
def test_a_manifest_of_odd_or_endless_values_gets_an_answer(export, change, message):
    folder = export(formats=["parquet"]) / "parquet"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    assert any(line.startswith(f"manifest.json: {message}") for line in verify(folder)), verify(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"images": 21', '"images": 20, "images": 21'), "the key 'images' stands"),
        (lambda text: text.replace('"seed": 42', '"seed": NaN'), "NaN is no JSON"),
        (lambda text: "[" * 100_000, "recursion"),
    ],
)
def test_a_manifest_that_two_readers_read_differently_is_refused(export, change, message):
    folder = export(formats=["parquet"]) / "parquet"
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(change(text))
    (line,) = verify(folder)
    assert line.startswith("manifest.json: cannot be read (") and message in line


def test_json_without_repeated_keys_is_what_it_was():
    text = '{"a": [1, {"b": null}], "c": {"a": 1.5}}'
    assert strict_json(text) == json.loads(text)


def test_a_line_that_stands_twice_in_the_checksums_is_found(export):
    folder = export(formats=["parquet"]) / "parquet"
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join([*lines, lines[0]]))
    assert any(
        line.startswith("SHA256SUMS: ") and line.endswith("stands there twice") for line in verify(folder)
    )


def rewritten_tar(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("change", ["twice", "between", "json"])
def test_members_of_a_tar_that_stand_twice_are_found(export, change):
    """Some readers take the first of two members, others the last."""
    folder = export(formats=["webdataset"]) / "webdataset"
    with tarfile.open(folder / "train.tar") as archive:
        members = [(each.name, archive.extractfile(each).read()) for each in archive]
    if change == "twice":
        members.insert(1, members[0])
    elif change == "between":
        members[1], members[4] = members[4], members[1]
    else:
        at = next(place for place, (name, _) in enumerate(members) if name.endswith("json"))
        name, content = members[at]
        members[at] = name, content.replace(b'{"id"', b'{"label": 2, "id"')
        assert content != members[at][1]
    rewritten_tar(folder / "train.tar", members)
    reseal(folder)
    (line,) = verify(folder)
    assert line.startswith("train.tar: ") and ("stands" in line), line


def npy(shape, dtype, content):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize("name", ["images", "labels", "ids"])
@pytest.mark.parametrize("shape", [(10**12,), (10**5, 10**5), (21,)])
def test_an_array_is_not_larger_than_its_member(export, name, shape):
    """A header may ask for terabytes that are not there, or for values of a gigabyte each."""
    folder = export(formats=["npz"]) / "npz"
    with zipfile.ZipFile(folder / "train.npz") as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    members[f"{name}.npy"] = npy(shape, "<U100000000" if shape == (21,) else "<i8", bytes(168))
    with zipfile.ZipFile(folder / "train.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    reseal(folder)
    found = verify(folder)
    assert any(line.startswith(f"train.npz: cannot be read ({name}") for line in found), found


@pytest.mark.parametrize("name", ["id", "z_sha256", "image"])
def test_a_value_that_each_row_of_a_parquet_file_repeats_is_refused(export, name):
    """As a dictionary, one text of 10 MB is in the file once; as rows it would be there 1000 times."""
    folder = export(synthetic_images(counts=(500, 500)), formats=["parquet"]) / "parquet"
    table = pq.read_table(folder / "train.parquet").replace_schema_metadata()
    place = table.schema.get_field_index(name)
    if name == "image":
        paths = table["image"].combine_chunks().field("path")
        pngs = pa.array([bytes(100_000)] * 1000, pa.binary())
        column = pa.StructArray.from_arrays([pngs, paths], fields=list(table.schema.field("image").type))
    else:
        column = pa.DictionaryArray.from_arrays(
            pa.array([0] * 1000, pa.int32()), pa.array(["x" * 10_000_000])
        )
    table = table.set_column(place, name, column)
    pq.write_table(table, folder / "train.parquet", compression="zstd", store_schema=False)
    del table, column
    reseal(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = verify(folder)
    assert line.startswith("train.parquet: column ") and "are allowed" in line, line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("name", ["parquet", "idx"])
def test_more_rows_than_images_are_not_read(export, name):
    folder = export(formats=[name]) / name
    path = folder / ("train.parquet" if name == "parquet" else "samples.parquet")
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table] * 1000).combine_chunks(), path)
    reseal(folder)
    (line,) = verify(folder)
    assert "21,000 rows; the manifest has 21 images" in line


@pytest.mark.parametrize("change", ["more", "twice", "type"])
def test_columns_that_no_export_has_are_refused(export, change):
    folder = export(formats=["parquet"]) / "parquet"
    table = pq.read_table(folder / "train.parquet")
    if change == "more":
        table = table.append_column("\x1b[2J", pa.array(["x"] * 21))
    elif change == "twice":
        table = table.append_column("id", table["id"])
    else:
        table = table.set_column(0, "id", pa.array([[["x"]]] * 21))
    pq.write_table(table, folder / "train.parquet")
    reseal(folder)
    (line,) = verify(folder)
    assert line.startswith("train.parquet: column ")


def with_little_memory(*arguments):
    """The command in a process that gives to a file from outside what it holds at that time and 50 MB."""
    code = (
        "import pipeline.export.readers; from pipeline.runtime import memory; memory.MOST_BYTES = 0;"
        "memory._LEAST_MORE = 50_000_000; import synthgain.app; synthgain.app.main()"
    )
    return synthgain(*arguments, code=code)


def with_a_long_hash(path, name="z_sha256", size=100_000_000):
    table = pa.ipc.open_file(path).read_all() if path.suffix == ".arrow" else pq.read_table(path)
    place = table.schema.get_field_index(name)
    column = pa.array(["x" * size, *["y"] * (len(table) - 1)], pa.string())
    return table.set_column(place, table.schema.field(place), column)


def varint(number, length=None):
    """As in Thrift's compact protocol (zigzag of a positive number), padded to a length."""
    number, content = number << 1, b""
    while number or len(content) < (length or 1):
        content += bytes([number & 127 | 128])
        number >>= 7
    return content[:-1] + bytes([content[-1] & 127])


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_packed_buffers_of_an_arrow_file_do_not_fill_the_memory(export, codec):
    folder = export(formats=["arrow"]) / "arrow"
    table = with_a_long_hash(folder / "train.arrow")
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(folder / "train.arrow", table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    del table
    reseal(folder)
    done = with_little_memory("verify" if codec == "lz4" else "inspect", folder)
    assert TOO_MUCH_MEMORY in done.stdout + done.stderr
    assert done.returncode == 1 and len((done.stdout + done.stderr).splitlines()) == 1


def test_a_page_of_a_parquet_file_that_is_larger_than_the_footer_says(export):
    folder = export(formats=["parquet"]) / "parquet"
    path = folder / "train.parquet"
    pq.write_table(
        with_a_long_hash(path).replace_schema_metadata(),
        path,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    )
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        columns = [group.column(place) for place in range(group.num_columns)]
    (size,) = (each.total_uncompressed_size for each in columns if each.path_in_schema == "z_sha256")
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[start:]
    assert footer.count(varint(size)) == 1
    path.write_bytes(content[:start] + footer.replace(varint(size), varint(1000, len(varint(size)))))
    reseal(folder)
    done = with_little_memory("verify", folder)
    assert (done.returncode, done.stdout) == (1, f"{folder}: train.parquet: {TOO_MUCH_MEMORY}\n"), done


@pytest.mark.parametrize("name", ["labels", "images", "class_names"])
def test_a_file_of_labelled_images_does_not_unpack_without_end(tmp_path, name):
    """In a process of its own: one that freed as much before may take it again below any limit."""
    synthetic_images().save(tmp_path / "s.npz")
    with zipfile.ZipFile(tmp_path / "s.npz") as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    shape, dtype = {"labels": ((12_500_000,), "<i8"), "images": ((12_500_000, 1, 1, 8), "|u1")}.get(
        name, ((1,), "<U25000000")
    )
    members[f"{name}.npy"] = npy(shape, dtype, bytes(100_000_000))
    if name == "images":
        members["labels.npy"] = npy((12_500_000,), "|i1", bytes(12_500_000))
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    message = "labels (12500000,) int8" if name == "images" else TOO_MUCH_MEMORY
    code = (
        "from pathlib import Path\n"
        "from pipeline.export.inspect import inspect\n"
        "from pipeline.runtime import memory\n"
        "memory.MOST_BYTES, memory._LEAST_MORE = 0, 50_000_000\n"
        "inspect(Path('s.npz'), per_class=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pipeline.errors.SynthGainError: " in done.stderr and message in done.stderr, done


def test_compressed_pictures_are_unpacked_some_at_a_time(tmp_path, monkeypatch):
    images = synthetic_images(counts=(9, 5, 7))
    images.save(tmp_path / "s.npz")
    monkeypatch.setattr("pipeline.export.source._BYTES_AT_ONCE", 3 * 64)
    contents = inspect(tmp_path / "s.npz", per_class=6)
    assert all(
        np.array_equal(pictures, images.images[start:stop, 0])
        for pictures, start, stop in zip(contents.pictures, (0, 9, 14), (6, 14, 20), strict=True)
    )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(bytes(1000)), "it is packed with gzip"),
        (npy((10**12,), "<i8", b""), "it is a single array, .npy"),
        (b"", "it is empty"),
    ],
    ids=["gzip", "npy", "empty"],  # gzip holds the time: test processes must agree on names
)
@pytest.mark.parametrize("name", ["a.npz", "train-images-idx3-ubyte.gz", "a.tar.gz"])
def test_a_file_of_another_kind_is_named_as_what_it_is(tmp_path, content, kind, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SynthGainError, match=rf"no \.npz file: {kind}\); make it again") as error:
        inspect(tmp_path / name, per_class=1)
    assert "\n" not in str(error.value) and "pickle" not in str(error.value)


def synthgain(*arguments, megabytes=None, seconds=SECONDS, code="import synthgain.app; synthgain.app.main()"):
    """The command in a process of its own, which is killed if it takes more seconds of the processor."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        if megabytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (megabytes * 2**20, megabytes * 2**20))

    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_OF_A_CLOCK,
        preexec_fn=limit,
    )


def test_no_name_from_a_file_moves_the_cursor(export):
    names = ("\x1b[2Jcat", "a\u202eb", "c\rd")
    folder = export(synthetic_images(class_names=("a", "b", "c")), formats=["npz"]) / "npz"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["class_names"] = names
    write_manifest(folder, manifest)
    whole = CliRunner().invoke(app, ["inspect", str(folder)])
    assert whole.exit_code == 0
    assert "\\x1b[2Jcat" in whole.output and "a\\u202eb" in whole.output
    manifest["files"]["\x1b[2J.parquet"] = {"bytes": 1, "sha256": "0" * 64}
    write_manifest(folder, manifest)
    checked = CliRunner().invoke(app, ["verify", str(folder)])
    assert checked.exit_code == 1 and ".parquet" in checked.output
    refused = synthgain("inspect", folder)
    shown = whole.output + checked.output + refused.stdout + refused.stderr
    assert not {sign for sign in shown if not sign.isprintable() and sign != "\n"}, shown


@pytest.mark.parametrize("name", ["png", "webdataset"])
def test_four_thousand_images_take_seconds_and_half_a_gigabyte(export, name):
    """The bounds are 60 s for 100 000 files, and 60 KB for an image beside the 250 MB of an empty process."""
    folder = export(synthetic_images(counts=(2000, 2000)), formats=[name], shard_size=500) / name
    done = synthgain("verify", folder, megabytes=500, seconds=5)
    assert (done.returncode, done.stdout) == (0, f"{folder}: ok\n"), done.stderr


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_an_earlier_version_goes_by_the_rules_of_that_version(name, monkeypatch):
    """The words of the card and of the Croissant may change; their facts may not."""
    from pipeline.export import manifest_rules

    monkeypatch.setattr(manifest_rules, "card", lambda manifest: "another text\n")
    monkeypatch.setattr(manifest_rules, "croissant", lambda manifest: {"other": "words"})
    assert verify(OLD / name) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        ("README.md", "Optical Recognition", "Magic Recognition", "README.md: not the one of this manifest"),
        (
            "README.md",
            "Synthetic images, made",
            "Real images, made",
            "README.md: its title does not say",
        ),
        ("croissant.json", "not confirmed", "CC0", "croissant.json: not the one of this manifest"),
        ("croissant.json", '"synthetic"', '"real"', "croissant.json: not the one of this manifest"),
        ("croissant.json", '"contentSize": "', '"contentSize": "9', "croissant.json: not the one of"),
        ("croissant.json", "{", '{"name": "a", ', "croissant.json: cannot be read (the key 'name' stands"),
        ("croissant.json", '"distribution"', '"distributions"', "croissant.json: cannot be read ('distrib"),
    ],
)
def test_a_changed_text_of_an_earlier_version_is_found(tmp_path, name, old, new, line):
    folder = tmp_path / "npz"
    folder.mkdir()
    for path, content in tree(OLD / "npz").items():
        (folder / path).write_bytes(content)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1 if old == "{" else -1))
    assert any(found.startswith(line) for found in verify(folder)), verify(folder)


def test_a_version_that_is_claimed_must_be_kept(export):
    """A manifest of today that calls itself older does not get away with the rules of then."""
    folder = export(formats=["npz"]) / "npz"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 2}))
    assert "croissant.json: not the one of this manifest" in verify(folder)
