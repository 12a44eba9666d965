import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.params import dump_params, load_params, overlay_params, parse_params

ROOT = Path(__file__).parents[1]
VALUES = yaml.safe_load((ROOT / "params.yaml").read_text())


def changed(place: str, value: object) -> dict:
    values = copy.deepcopy(VALUES)
    section, _, key = place.partition(".")
    if key:
        values[section][key] = value
    else:
        values[section] = value
    return values


def problems(values: dict) -> list[str]:
    with pytest.raises(SynthGainError) as caught:
        parse_params(values, where="params.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "place, value, said",
    [
        ("data.source", "mnits", "found 'mnits'; allowed: 'mnist', 'fashion_mnist'"),
        ("data.validation_images", 0, "found 0; allowed: greater than or equal to 1"),
        ("data.image_size", 30, "4, 5, 6 or 7 doubled once or more, 8 to 128; nearest: 28 or 32"),
        ("data.image_size", 36, "nearest: 32 or 40"),
        ("data.image_size", 300, "nearest: 128"),
        ("data.channels", "rgb", "'auto', 'grey' or 'colour'"),
        ("data.channels", "colour", "data.channels: found colour; mnist is grey: auto or grey"),
        ("data.image_size", 32, "mnist has 28 pixels per side"),
        ("data.folder_test_fraction", 1.0, "less than 1"),
        ("study.real_images", [], "at least 1 item"),
        (
            "study.real_images",
            [1000, "al"],
            "study.real_images.1: found 'al'; allowed: a whole number or 'all'",
        ),
        ("study.real_images", [5], "10 classes"),
        ("study.synthetic_per_real", [1, 1.0], "each value may stand once"),
        ("study.synthetic_per_real", [-0.5], "greater than or equal to 0"),
        ("study.synthetic_per_real", [float("nan")], "a finite number"),
        ("study.synthetic_per_real", [1.0, 50.0], "needs 5000"),
        ("study.arms", ["real", "cutmix"], "study.arms.1: found 'cutmix'; allowed: real, class_weights"),
        ("study.arms", ["real", "real"], "each value may stand once"),
        ("study.arms", ["real_affine"], "real, which others are compared with, belongs to it"),
        ("study.arms", ["real", "synthetic_affine"], "found synthetic_affine without real_affine"),
        ("study.arms", ["real", "fill_repeat"], "found fill_repeat, but study.imbalance names no rare class"),
        ("study.imbalance", {"3": 1.0}, "study.imbalance: found 1.0; allowed: less than 1"),
        ("study.imbalance", {"3": 0}, "greater than 0"),
        ("study.label_filter", 1.5, "less than or equal to 1"),
        ("study.label_filter_folds", 1, "greater than or equal to 2"),
        ("generation.latent_std", 1.6, "less than or equal to 1.5"),
        ("classifier.real_only_tail", 1.1, "less than or equal to 1"),
        ("classifier.synthetic_weight", -1, "greater than or equal to 0"),
        ("gan.class_sampling", "even", "'as_drawn' or 'balanced'"),
        ("augmentation.elastic_sigma", 0, "greater than 0"),
        (
            "augmentation.fill",
            256,
            "augmentation.fill: found 256; allowed: less than or equal to 255 or 'edge' or 'mean'",
        ),
        ("augmentation.flips", "vertical", "'none', 'horizontal' or 'both'"),
        (
            "study.arms",
            ["real", "real_flip_crop"],
            "found real_flip_crop, whose policy mirrors images, but augmentation.f",
        ),
        ("gan.collapse_patience", 5, "gan.collapse_patience: now called gan.collapse_patience_images"),
        ("classifier.elastic_sigma", 4.0, "classifier.elastic_sigma: now called augmentation.elastic_sigma"),
        ("study.replicates", 2.5, "a whole number"),
        ("study.replicates", True, "found True"),
        ("gan.generator_learning_rate", "2e-4", "write it with a decimal point, as in 2.0e-4"),
        ("gan.generator_learning_rate", float("inf"), "a finite number"),
        ("gan.total_images", 10, "at least gan.batch_size"),
        ("gan.typo", 1, "gan.typo: unknown key"),
        ("gan.generator_strides", [2, 2], "one for each of the layers is needed, or auto"),
        ("gan.generator_strides", [2, 3], "less than or equal to 2"),
        ("gan.label_smoothing", 0.1, "loss relativistic has no target to smooth"),
        ("gan.penalty", "none", "a penalty has a weight above 0, none has 0.0"),
        ("gan.penalty_weight", 0.0, "a penalty has a weight above 0, none has 0.0"),
        ("gan.loss", "minimax", "'relativistic', 'non_saturating'"),
        ("gan.discriminator_steps", 10000, "at least gan.batch_size × gan.discriminator_steps (1280000)"),
        ("classifier", "x", "a section of keys and values"),
        ("export.formats", ["zip"], "'idx', 'idx_gz', 'png'"),
        ("export.real_images", 77, "recommended, or one of study.real_images [1000]"),
        ("export.replicate", 5, "found 5; replicates are counted from 1, and study.replicates is 4"),
        ("export.replicate", 0, "export.replicate: found 0; replicates are counted from 1"),
        ("execution.device", "gpu", "'auto', 'cpu' or 'cuda'"),
        ("wrong_section", {}, "wrong_section: unknown key"),
    ],
)
def test_a_wrong_value_gets_one_line_with_place_and_what_is_allowed(place, value, said):
    lines = problems(changed(place, value))
    assert len(lines) == 1
    assert lines[0].startswith("params.yaml: ")
    assert said in lines[0]


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"loss": "wasserstein", "penalty": "none", "penalty_weight": 0.0},
            "needs a bound on the discriminator",
        ),
        ({"augment_cutout": 0.3, "augment_probability": 0.0}, "it would never happen"),
        ({"architecture": "mlp", "generator_strides": [2]}, "architecture mlp has none: []"),
        (
            {"architecture": "mlp"},
            "gan.generator_channels: found auto; architecture mlp needs its hidden sizes",
        ),
        (
            {
                "architecture": "mlp",
                "generator_channels": [8],
                "discriminator_channels": [8],
                "discriminator_features": 0,
                "upsampling": "nearest",
            },
            "mlp has nothing to upsample",
        ),
        (
            {"generator_channels": [8, 8, 8], "generator_strides": [2, 2, 1]},
            "the last of architecture compact is its pixel-shuffle",
        ),
        (
            {"discriminator_channels": [8] * 4, "discriminator_strides": [2] * 4},
            "at most 8 in all",
        ),
        (
            {"generator_channels": [8, 8], "generator_strides": [2, 1, 2]},
            "one for each of the 2 gan.generator_channels",
        ),
        (
            {"generator_channels": [8] * 3, "generator_strides": [2] * 3},
            "8 in all do not lead from a grid of 2 or more to data.image_size 28",
        ),
    ],
)
def test_nonsense_combinations_are_refused_by_name(changes, said):
    values = copy.deepcopy(VALUES)
    values["gan"] |= changes
    lines = problems(values)
    assert any(said in line for line in lines), lines
    assert all(line.startswith("params.yaml: gan.") for line in lines)


def test_a_missing_key_is_named():
    values = copy.deepcopy(VALUES)
    del values["gan"]["z_dim"]
    assert problems(values) == ["params.yaml: gan.z_dim: missing; every value stands in params.yaml"]


def test_all_problems_are_told_at_once():
    values = copy.deepcopy(VALUES)
    del values["seed"]
    values["gan"]["beta1"] = 2
    values["classifier"]["steps"] = "many"
    assert {line.split(":")[1].strip() for line in problems(values)} == {
        "seed",
        "gan.beta1",
        "classifier.steps",
    }


def test_params_are_frozen():
    params = parse_params(VALUES, where="params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 8


def test_numbers_keep_the_form_they_are_written_in():
    """DVC puts the written form into paths: 1 and 1.0 are different files."""
    params = parse_params(changed("study.synthetic_per_real", [0, 0.5, 2.0]), where="params.yaml")
    assert [str(ratio) for ratio in params.study.synthetic_per_real] == ["0", "0.5", "2.0"]


def test_no_value_has_a_second_default():
    from pipeline import params as module

    sections = [
        kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, module.Section)
    ]
    assert len(sections) > 10
    for section in sections:
        assert all(value.is_required() for value in section.model_fields.values()), section


@pytest.mark.parametrize("study", sorted(ROOT.glob("studies/*.yaml")), ids=lambda path: path.name)
def test_every_shipped_study_is_valid(study):
    overlay_params(ROOT / "params.yaml", study)


def test_a_class_called_by_a_number_is_named_by_it():
    params = parse_params(changed("study.imbalance", {3: 0.1, "8": 0.2}), where="params.yaml")
    assert params.study.imbalance == {"3": 0.1, "8": 0.2}


def test_dump_and_load_are_inverse(tmp_path):
    params = load_params(ROOT / "params.yaml")
    (tmp_path / "params.yaml").write_text(dump_params(params))
    assert load_params(tmp_path / "params.yaml") == params


@settings(max_examples=25)  # each reads 65 ms of YAML
@given(seed=st.integers(0, 2**63), replicates=st.integers(1, 50), ratio=st.floats(0.1, 9))
def test_overlay_changes_what_it_names_and_nothing_else(tmp_path_factory, seed, replicates, ratio):
    changes = tmp_path_factory.mktemp("overlay") / "changes.yaml"
    wanted = {"seed": seed, "study": {"replicates": replicates, "synthetic_per_real": [ratio]}}
    changes.write_text(yaml.safe_dump(wanted))
    base, result = load_params(ROOT / "params.yaml"), overlay_params(ROOT / "params.yaml", changes)
    assert (result.seed, result.study.replicates, result.study.synthetic_per_real) == (
        seed,
        replicates,
        [ratio],
    )
    assert result.study.real_images == base.study.real_images
    assert (result.gan, result.data, result.export) == (base.gan, base.data, base.export)


def test_overlay_refuses_unknown_keys(tmp_path):
    (tmp_path / "changes.yaml").write_text("gan: {bathc_size: 3}\n")
    with pytest.raises(SynthGainError, match=r"gan\.bathc_size: unknown key"):
        overlay_params(ROOT / "params.yaml", tmp_path / "changes.yaml")


@pytest.mark.parametrize(
    "text, said",
    [
        ("a: [1", "not valid YAML"),
        ("- 1\n", "found list"),
        ("", "found NoneType"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_params_file(tmp_path, text, said):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SynthGainError, match=said):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SynthGainError, match=r"no such file; run this where params\.yaml is"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [
        *((word, "true or false") for word in ("no", "No", "OFF", "on", "yes", "true", "False")),
        *((word, "nothing") for word in ("null", "~")),
        *((word, "another number") for word in ("010", "0x1F", "1_000", "12:30", "+3")),
        *((word, "a number") for word in (".5", "1.50")),
        ("2024-01-31", "a date"),
    ],
)
def test_a_class_name_that_yaml_takes_for_something_else_is_named_as_it_was_typed(tmp_path, typed, read_as):
    text = (ROOT / "params.yaml").read_text()
    line = 1 + text[: text.index("  imbalance:")].count("\n")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  imbalance: {}", f"  imbalance: {{{typed}: 0.1}}"))
    with pytest.raises(SynthGainError) as error:
        load_params(path)
    assert str(error.value) == (
        f"{path}: study.imbalance.{typed}: line {line}: YAML reads this key as {read_as}; put it in quotes:"
        f' "{typed}"'
    )
    path.write_text(text.replace("  imbalance: {}", f'  imbalance: {{"{typed}": 0.1}}'))
    assert load_params(path).study.imbalance == {typed: 0.1}


def test_a_number_beside_names_is_refused_before_dvc_cannot_order_them(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    line = 1 + text[: text.index("  imbalance:")].count("\n")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  imbalance: {}", "  imbalance: {3: 0.1, cat: 0.1}"))
    with pytest.raises(SynthGainError) as error:
        load_params(path)
    assert str(error.value) == (
        f'{path}: study.imbalance.3: line {line}: a number beside keys that are text; put it in quotes: "3"'
    )


@pytest.mark.parametrize(
    "steps", [{"100": 30, "1000": 20}, {100: 30, 1000: 20}, {"1000": 20, "100": 30, "all": 5}]
)
def test_each_budget_has_its_steps(tmp_path, steps):
    values = changed("classifier.steps", steps)
    params = parse_params(values, where="params.yaml")
    assert params.classifier.of_budget(1000).steps == 20
    assert params.classifier.of_budget(100).steps == 30
    assert params.classifier.of_budget(1000).learning_rate == values["classifier"]["learning_rate"]
    (tmp_path / "params.yaml").write_text(dump_params(params))
    assert load_params(tmp_path / "params.yaml") == params


def test_one_number_of_steps_is_for_every_budget():
    params = parse_params(changed("classifier.steps", 7), where="params.yaml")
    assert params.classifier.of_budget(100) == params.classifier.of_budget("all")
    assert params.classifier.of_budget(100).steps == 7


@pytest.mark.parametrize(
    "steps", ["many", 0, 1.5, True, [3], {}, {"x": 3}, {1000: 0}, {1000: "a"}, {0: 3}, {1000: True}]
)
def test_steps_that_are_no_number_and_no_map_of_budgets_are_one_line(steps):
    with pytest.raises(SynthGainError) as error:
        parse_params(changed("classifier.steps", steps), where="params.yaml")
    assert str(error.value) == (
        f"params.yaml: classifier.steps: found {steps!r}; allowed: a whole number from 1 on, or one for each budget,"
        ' as in {"100": 3000, "1000": 2000}'
    )


def test_a_budget_without_steps_is_refused():
    with pytest.raises(SynthGainError) as error:
        parse_params(changed("classifier.steps", {"100": 3000}), where="params.yaml")
    assert str(error.value) == (
        "params.yaml: classifier.steps: names 100, but not the budget 1000 of study.real_images; add its steps, or"
        " write one number for all budgets"
    )
