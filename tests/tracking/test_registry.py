"""The registered generator: the better one becomes champion, and it generates where this project is not."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.errors import SynthGainError
from pipeline.gan.generators import save_generator
from pipeline.gan.networks import Generator, GeneratorDesign
from pipeline.gan.sampling import sample_images
from pipeline.params import load_params
from pipeline.tracking.champion import Candidate, Holder, decide, find_candidate, reason_without_candidate
from pipeline.tracking.connection import default_store
from pipeline.tracking.mirror import mirror
from pipeline.tracking.planned_runs import PlannedRun
from pipeline.tracking.registry import _served_files, fetch_generator, register_generator, unreadable_champion
from pipeline.tracking.store import find_store

ROOT = Path(__file__).parents[2]
NAME = "synthgain-mnist"
TINY = {
    "architecture": "compact",
    "z_dim": 6,
    "class_embedding_dim": 4,
    "channels": [8, 4],
    "strides": [2, 2],
    "upsampling": "transposed",
    "normalization": "none",
    "conditioning": "projection",
    "leak": 0.2,
    "noise": 0.0,
    "num_classes": 3,
    "image_size": 8,
}


def candidate(path, *, cas=0.9, seed=0, protocol="p" * 64):
    torch.manual_seed(seed)
    generator = Generator(GeneratorDesign(**TINY)).eval()
    save_generator(path, generator, class_names=("a", "b", "c"), provenance={})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Candidate(path, digest, "60", 0, cas, 2.0, protocol)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory, empty_database):
    """(a store with the GAN's run, the id of its experiment)"""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_database, folder / "mlflow.db")
    table = folder / "cells.csv"
    table.write_text("")
    runs = [
        PlannedRun(kind="study", key="study", name="study", artifacts=[(table, "")]),
        PlannedRun(kind="gan", key="gan/60/0", name="gan"),
    ]
    store = find_store({}, folder)
    return store, mirror(runs, experiment=NAME, store=store, root=folder).experiment_id


def register(who, mirrored):
    store, experiment_id = mirrored
    return register_generator(
        who,
        name=NAME,
        run_key="gan/60/0",
        experiment_id=experiment_id,
        card=f"# Card of {who.cas}",
        store=store,
    )


def champion(mirrored):
    store, _ = mirrored
    return MlflowClient(store.uri, registry_uri=store.uri).get_model_version_by_alias(NAME, "champion")


def test_the_alias_goes_to_the_better_generator_and_the_version_says_why(mirrored, tmp_path):
    first = candidate(tmp_path / "1.safetensors")
    assert register(first, mirrored) == (
        f"{NAME} version 1: alias champion moved to it: first generator, validation CAS 0.9000"
    )
    assert register(first, mirrored).startswith(
        f"{NAME} version 1: alias champion stays: version 1 is this generator"
    )
    worse = candidate(tmp_path / "2.safetensors", cas=0.85, seed=1)
    assert register(worse, mirrored) == (
        f"{NAME} version 2: alias champion stays: validation CAS 0.8500 is no better than 0.9000 of version 1"
    )
    better = candidate(tmp_path / "3.safetensors", cas=0.95, seed=2)
    assert register(better, mirrored) == (
        f"{NAME} version 3: alias champion moved to it: validation CAS 0.9500, version 1 has 0.9000"
    )
    assert champion(mirrored).version in (3, "3")
    assert champion(mirrored).tags["champion_decision"] == "validation CAS 0.9500, version 1 has 0.9000"
    model = MlflowClient(mirrored[0].uri, registry_uri=mirrored[0].uri).get_registered_model(NAME)
    assert "draws images" in model.description and model.tags["synthetic"] == "true"
    assert champion(mirrored).description == "# Card of 0.95"
    # The weights that the registry gives back are those that were registered.
    store, _ = mirrored
    for uri, path in ((f"models:/{NAME}@champion", better.generator), (f"models:/{NAME}/1", first.generator)):
        assert fetch_generator(uri, store).read_bytes() == path.read_bytes()
    with pytest.raises(SynthGainError, match="nobody: not in MLflow at"):
        fetch_generator(f"models:/{NAME}@nobody", store)
    with pytest.raises(SynthGainError, match="models:/NAME@ALIAS or models:/NAME/VERSION is needed"):
        fetch_generator("models:/x/y/z", store)


def of_another_version(who):
    """A generator with an option that this code does not know."""
    tensors, metadata = load_checkpoint(who.generator, kind="generator")
    metadata["arguments"]["attention"] = True
    save_checkpoint(who.generator, tensors, metadata)
    return replace(who, generator_sha256=hashlib.sha256(who.generator.read_bytes()).hexdigest())


@pytest.mark.parametrize("protocol", ["p" * 64, "q" * 64])
def test_a_champion_that_this_code_cannot_load_gives_the_alias_away(tmp_path, empty_database, protocol):
    """However good it was, and however it was scored: nobody can generate with it."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    store = find_store({}, tmp_path)
    (tmp_path / "cells.csv").write_text("")
    runs = [PlannedRun("study", "study", "study"), PlannedRun("gan", "gan/60/0", "gan")]
    mirrored = store, mirror(runs, experiment=NAME, store=store, root=tmp_path).experiment_id
    assert unreadable_champion(NAME, store) is None
    old = of_another_version(candidate(tmp_path / "old.safetensors", cas=0.99, protocol=protocol))
    register(old, mirrored)
    version, why = unreadable_champion(NAME, store)
    assert (
        version == "1" and "not a generator of this version of SynthGain" in why and str(tmp_path) not in why
    )
    new = candidate(tmp_path / "new.safetensors", cas=0.5)
    said = register(new, mirrored)
    assert said.startswith(
        f"{NAME} version 2: alias champion moved to it: this version of SynthGain cannot load version 1"
    )
    assert "had validation CAS 0.9900; this one has 0.5000" in said
    assert str(champion(mirrored).version) == "2" and unreadable_champion(NAME, store) is None
    assert fetch_generator(f"models:/{NAME}@champion", store).read_bytes() == new.generator.read_bytes()


def test_a_killed_try_leaves_nothing_behind(mirrored, tmp_path, monkeypatch):
    store, experiment_id = mirrored
    client = MlflowClient(store.uri, registry_uri=store.uri)

    def logged():
        return {model.model_id: str(model.status) for model in client.search_logged_models([experiment_id])}

    def die(*_, **__):
        raise KeyboardInterrupt

    new = candidate(tmp_path / "new.safetensors", cas=0.5, seed=3)
    before, seen = logged(), []
    for moment in ("log_model_artifacts", "finalize_logged_model", "create_model_version"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MlflowClient, moment, die)
            register(new, mirrored)
        (half,) = logged().keys() - before.keys()
        seen.append(logged()[half])
    assert seen == ["PENDING", "PENDING", "READY"]
    assert f"{NAME} version" in register(new, mirrored)
    assert logged() == {**before, half: "READY"}  # the one that was ready has become the version
    by_hand = client.create_logged_model(experiment_id, name="by-hand")
    register(candidate(tmp_path / "next.safetensors", cas=0.4, seed=9), mirrored)
    assert logged()[by_hand.model_id] == "PENDING"  # somebody else's


def test_decisions():
    new = Candidate(Path("g"), "new", "60", 0, 0.9, 2.0, "p")
    old = Holder("4", "old", 0.8, "p")
    assert decide(new, old)[0]
    assert not decide(new, replace(old, cas=0.9))[0]  # as good is not better
    moved, why = decide(new, replace(old, protocol="other"))
    assert not moved and "cannot be compared" in why and "by hand" in why


def test_the_score_is_that_of_the_largest_declared_ratio_on_validation(write_study):
    files = write_study(
        ratios=(0.5, 1.0),
        validation_accuracy=lambda arm, replicate: 0.5 + 0.1 * arm.synthetic_per_real + 0.01 * replicate,
    )
    generator = files.root / "generator.safetensors"
    generator.write_bytes(b"weights")
    arguments = {
        "cells": files.cells,
        "splits": files.root / "data/prepared/splits.json",
        "generator": generator,
        "budget": "60",
    }
    found = find_candidate(load_params(files.params), **arguments)
    assert (found.cas, found.synthetic_per_real) == (0.6, 1.0)
    files.declare(synthetic_per_real=[0.5])
    less = find_candidate(load_params(files.params), **arguments)
    assert (less.cas, less.synthetic_per_real) == (0.55, 0.5)
    assert less.protocol != found.protocol
    with pytest.raises(SynthGainError, match="no validation accuracy of arm synthetic_only for budget 61"):
        find_candidate(load_params(files.params), **(arguments | {"budget": "61"}))


def changed(params, section, **values):
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def test_without_a_score_of_its_own_no_generator_is_a_candidate():
    params = load_params(ROOT / "params.yaml")
    assert reason_without_candidate(params) is None
    arms = [arm for arm in params.study.arms if arm != "synthetic_only"]
    for other, why in (
        (changed(params, "study", arms=arms), "arm synthetic_only"),
        (changed(params, "study", synthetic_per_real=[0]), "arm synthetic_only"),
        (changed(params, "study", generators_per_replicate=2), "of several generators"),
        (changed(params, "generation", latent_std=1.2), "latent_std is not 1"),
    ):
        assert why in reason_without_candidate(other)


def test_a_server_in_trouble_makes_no_champion(mirrored, tmp_path, monkeypatch):
    register(candidate(tmp_path / "first.safetensors", cas=0.99, seed=7), mirrored)
    before = champion(mirrored).version

    def fail(*_, **__):
        raise MlflowException("no answer", error_code=TEMPORARILY_UNAVAILABLE)

    with monkeypatch.context() as patch, pytest.raises(SynthGainError, match="no answer"):
        patch.setattr(MlflowClient, "get_model_version_by_alias", fail)
        register(candidate(tmp_path / "worse.safetensors", cas=0.1, seed=8), mirrored)
    assert champion(mirrored).version == before


def test_a_model_takes_along_all_that_sampling_imports():
    """What `pipeline.tracking.served_generator` uses imports no file of the project beyond those that go with it."""
    code = (
        "import sys; import pipeline.gan.generators, pipeline.gan.sampling;"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'pipeline'), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    used = {Path(line).relative_to(ROOT).as_posix() for line in done.stdout.splitlines()}
    assert used == _served_files()


def clean_environment(store):
    """No way to this project: what the model needs is in it, or among its requirements."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": store.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }


def expected(path, label, count, seed):
    from pipeline.gan.generators import load_generator

    generator, _, _ = load_generator(path, torch.device("cpu"))
    return sample_images(generator, seed=seed, label=label, start=0, count=count, device=torch.device("cpu"))[
        :, 0
    ]


# The project is installed in this environment: the process refuses to import it from where it lies.
PREDICT = f"""
import sys
sys.path = [each for each in sys.path if each not in ("", {str(ROOT)!r})]
sys.meta_path = [each for each in sys.meta_path if "editable" not in repr(each).lower()]
import mlflow, numpy, pandas
model = mlflow.pyfunc.load_model("models:/{NAME}@champion")
rows = pandas.DataFrame({{"label": [2, 0], "count": [3, 2]}})
images = model.predict(rows, params={{"seed": 7}})
import pipeline
assert not pipeline.__file__.startswith({str(ROOT)!r}), pipeline.__file__
numpy.save(sys.argv[1], images)
"""


@pytest.mark.slow
def test_a_clean_process_generates_from_the_registry_alone(mirrored, tmp_path):
    best = candidate(tmp_path / "best.safetensors", cas=0.99, seed=4)
    register(best, mirrored)
    store, _ = mirrored
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path / "images.npy")],
        cwd=tmp_path,
        env=clean_environment(store),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    images = np.load(tmp_path / "images.npy")
    assert images.shape == (5, 8, 8) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[:3], expected(best.generator, 2, 3, seed=7))
    np.testing.assert_array_equal(images[3:], expected(best.generator, 0, 2, seed=7))
    with default_store(store):
        uri = f"models:/{NAME}/{champion(mirrored).version}"
        signature = mlflow.models.get_model_info(uri).signature
        requirements = Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text().splitlines()
    assert [(each.name, each.type.name) for each in signature.inputs] == [
        ("label", "long"),
        ("count", "long"),
    ]
    assert [(each.name, each.default) for each in signature.params] == [("seed", 0)]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in requirements), requirements
    assert {line.partition("==")[0] for line in requirements} >= {"mlflow", "torch", "numpy", "safetensors"}


@pytest.mark.slow
def test_generate_takes_a_model_of_the_registry_by_its_alias(mirrored, tmp_path):
    best = candidate(tmp_path / "best.safetensors", cas=0.992, seed=6)
    register(best, mirrored)
    store, _ = mirrored
    for model, out in ((f"models:/{NAME}@champion", "registry.npz"), (str(best.generator), "file.npz")):
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-c",
                    "import synthgain.app; synthgain.app.main()",
                    "generate",
                    "--model",
                    model,
                ),
                *("--counts", "b=30,2=10", "--seed", "3", "--out", out),
            ],
            cwd=tmp_path,
            env=clean_environment(store) | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, f"40 synthetic images (b: 30, c: 10): {out}\n"), (
            done.stderr
        )
    assert (tmp_path / "registry.npz").read_bytes() == (tmp_path / "file.npz").read_bytes()
    with np.load(tmp_path / "registry.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"][:30, 0], expected(best.generator, 1, 30, seed=3))


@pytest.mark.slow
def test_mlflow_serves_it_over_http(mirrored, tmp_path):
    best = candidate(tmp_path / "best.safetensors", cas=0.995, seed=5)
    register(best, mirrored)
    store, _ = mirrored
    log = tmp_path / "log"
    for attempt in range(3):
        port, server = serve(store, tmp_path, log)
        try:
            answer = ask(
                port, {"dataframe_records": [{"label": 1, "count": 2}], "params": {"seed": 9}}, server
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(port, {"dataframe_records": [{"label": 7, "count": 2}]}, server)
            break
        except ServerEnded:
            # Somebody else may have taken the port since it was found to be free. Anything else is a failure.
            assert attempt < 2 and "address already in use" in log.read_text().lower(), log.read_text()
        finally:
            end(server)
    refused.value.close()
    assert refused.value.code in (400, 500)
    images = np.array(answer["predictions"], dtype=np.uint8)
    np.testing.assert_array_equal(images, expected(best.generator, 1, 2, seed=9))


class ServerEnded(Exception):
    """The server is gone, and has not answered."""


def serve(store, folder, log):
    """(port, process) of `mlflow models serve`, which may take its time until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{NAME}@champion"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]
    with log.open("w") as file:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(store),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    return port, server


def end(server):
    """End the server and whatever it has started, politely first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=60)
            return
    raise AssertionError("a killed server lives on")


def ask(port, content, server, patience=300):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None:
                raise ServerEnded from None
            assert time.monotonic() < end, "no answer"
            time.sleep(0.5)
