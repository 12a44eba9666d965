"""The files that a module is made of, and when their hash changes."""

from pathlib import Path

from pipeline.runtime.code import NO_INFLUENCE, ROOT, TABLES, code_sha256, import_closure


def project(folder: Path, **files: str) -> Path:
    for name, text in {"pipeline/__init__": '"""Doc."""', **files}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_imports_are_followed_at_any_depth_and_within_functions(tmp_path):
    root = project(
        tmp_path,
        **{
            "pipeline/a": "from pipeline.b import x",
            "pipeline/b": "def f():\n    import pipeline.c\n    import numpy",
            "pipeline/c": "from pipeline import d",
            "pipeline/d": "",
            "pipeline/errors": "from pipeline.e import y",
            "pipeline/e": "",
        },
    )
    found = import_closure(root / "pipeline/a.py", root=root)
    assert found == {f"pipeline/{name}.py" for name in "abcd"}


def test_what_has_no_influence_is_left_out_with_what_only_it_imports(tmp_path):
    root = project(
        tmp_path,
        **{
            "pipeline/a": "from pipeline.errors import E",
            "pipeline/errors": "import pipeline.e",
            "pipeline/e": "",
        },
    )
    assert import_closure(root / "pipeline/a.py", root=root) == {"pipeline/a.py"}


def test_the_tables_are_no_part_of_what_computes_a_classifier():
    closure = import_closure(ROOT / "pipeline/classifier/training.py")
    assert {"pipeline/classifier/training.py", "pipeline/augmentation/classic.py"} <= closure
    assert not closure & (TABLES | NO_INFLUENCE)
    gan = import_closure(ROOT / "pipeline/gan/training.py")
    assert not [name for name in gan if name.startswith(("pipeline/study/", "pipeline/classifier/"))]
    assert code_sha256("pipeline.classifier.training") != code_sha256("pipeline.gan.training")
