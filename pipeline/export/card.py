"""README.md: the card that goes with an exported data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.export.hub import dataset_header
from pipeline.markdown import as_markdown
from pipeline.study.trained_gans import LEAKAGE_NOT_EXCLUDED

_READ_WITH = {
    "idx": """Files with MNIST's names and layout, counted from 0: line i of `classes.txt` names label i, row i of
`samples.parquet` is about image i. `torchvision.datasets.MNIST(root)` reads them in `<root>/MNIST/raw`, beside a
test split (`t10k-*`): take a real one.""",
    "png": """One folder per class, one 8-bit greyscale file per image, named by its id.
`torchvision.datasets.ImageFolder(root)` reads it, as RGB: a grey image has three equal channels, and
`transforms.Grayscale()` gives one. It numbers the classes in alphabetical order of their folders: the label of this
data set is the number before the last dash in a file's name.""",
    "npz": """`numpy.load("train.npz")` gives `images` (n, H, W) uint8, `labels` (n,), `ids` and `class_names`; row i of
`samples.parquet` is about image i.""",
    "parquet": """`pandas.read_parquet`, or Hugging Face:
`datasets.load_dataset("parquet", data_files="train*.parquet")`, where `image` is a picture and `label` has names.""",
    "webdataset": """`<id>.png`, `<id>.cls` (the label) and `<id>.json` (its row of the sample table) make a sample:
`webdataset.WebDataset("train.tar").decode("l").to_tuple("png", "cls", "json")`.""",
    "arrow": """Arrow IPC files: `pyarrow.ipc.open_file(pyarrow.memory_map("train.arrow")).read_all()`, or Hugging Face:
`datasets.load_dataset("arrow", data_files="train*.arrow")`.""",
}
_READ_WITH["idx_gz"] = _READ_WITH["idx"].replace("in `<root>", "unpacked in `<root>")
_GREY_AND_COLOUR = (
    ("8-bit greyscale", "8-bit RGB"),
    ("(n, H, W) uint8", "(n, H, W, 3) uint8"),
    (", as RGB: a grey image has three equal channels, and\n`transforms.Grayscale()` gives one.", "."),
    ('.decode("l")', '.decode("rgb")'),
)
_METRICS = ("fid", "kid", "precision", "recall", "density", "coverage", "label_fidelity")


def card(manifest: Mapping[str, Any]) -> str:
    """The Markdown text of a data set's card, from its manifest: the hub's header, then first that it is synthetic."""
    height, width = manifest["image_size"]
    source, made = manifest["source"], manifest["provenance"]
    learned_from = training_images(made["budget"], source["name"])
    synthetic = manifest["images"] - manifest["real_images"]
    classes = len(manifest["class_names"])
    mixed = f", beside {manifest['real_images']} real ones" if manifest["real_images"] else ""
    sections = [
        f"# Synthetic images, made by a generator: {synthetic} of {classes} classes{mixed}",
        _opening(manifest, width, height),
        f"""## How they were made

{_maker(manifest, learned_from)} Generator `{made["generator_sha256"]}`, seed {made["seed"]}{_replicate(made)};
real subset `{made["real_subset_sha256"]}`.
{_filtered(manifest)}""",
        f"""## Real source and its licence

{source["name"]}. Licence: {source["licence"]}. {source["licence_url"]}
That licence and the biases of the source apply to what was learned from it.""",
        f"""## Intended use

Training data beside real images, tests of pipelines, teaching. {advice(manifest["study"])}
Keep the mark *synthetic* wherever the images go, and never put them into a validation or test split.""",
        f"""## Limits

- A label is what was asked of the generator; some images show something else.
- The images vary less than the real ones they were learned from, and rare shapes are missing.
- {memorisation(manifest["metrics"])}
- They are no anonymous version of anything: what the source shows of persons may show here.""",
        f"## Quality\n\n{quality_table(manifest['metrics'])}",
        f"## Counts\n\n{_counts(manifest)}",
        f"""## Files

{_read_with(manifest)}

`manifest.json` has counts, origin and hashes, `croissant.json` the same for Croissant readers. The sample table has,
per image: `id`, `label`, `synthetic`, `seed`, `z_sha256`, `generator_sha256`, `label_score`, `nearest_real_distance`
and `pixel_sha256`. `sha256sum -c SHA256SUMS` checks the files, `synthgain verify` everything else too.""",
        f"## How to cite\n\n{as_markdown(citation(manifest)) if 'generator' in made else citation(manifest)}",
    ]
    return f"{dataset_header(manifest)}\n" + "\n\n".join(section.strip() for section in sections) + "\n"


def training_images(budget: int | str | None, source: str) -> str:
    """What a generator learned from, in words: the budget of its study, or no more than the source."""
    known: dict[int | str | None, str] = {None: "images", "all": "all real training images"}
    return f"{known.get(budget, f'{budget} real training images')}\nof {source}"


def citation(manifest: Mapping[str, Any]) -> str:
    """What to write where the data set was used."""
    source = manifest["source"]
    learned_from = f"{source['name']}: {source['citation']}" if source["citation"] else source["name"]
    data_set = manifest["pixel_sha256"][:16]
    made = manifest["provenance"].get("generator")
    if made is None:
        return f"Synthetic images made with SynthGain, data set {data_set}. Learned from {learned_from}."
    by = (
        f"Synthetic images by {made['author']} ({made['name']}), checked with SynthGain, data set {data_set}."
    )
    return f"{by} Learned from {learned_from}." if made["trained_on"] == "subset" else by


def _maker(manifest: Mapping[str, Any], learned_from: str) -> str:
    """What made the images, and what it was trained on."""
    ours = f"{manifest['made_with']['name']} {manifest['made_with']['version']}"
    made = manifest["provenance"].get("generator")
    if made is None:
        return f"{ours}: a conditional GAN that learned from {learned_from}, {_beside(manifest)}."
    name, author, licence = (as_markdown(made[key]) for key in ("name", "author", "licence"))
    run = f"{ours} ran it" if made["kind"] == "command" else f"{ours} took its images as they were"
    trained = (
        f"As declared, it learned from {learned_from}, and from nothing else."
        if made["trained_on"] == "subset"
        else f"**{LEAKAGE_NOT_EXCLUDED}**"
    )
    copies = made["copies_of_real_images"]
    return (
        f"{name} by {author}, a generator that is no part of SynthGain; {run}. {trained}\nLicence of the images:"
        f" {licence}.{f' {copies} of them are copies of its real training images.' if copies else ''}"
    )


def _beside(manifest: Mapping[str, Any]) -> str:
    """What else our GAN learned from."""
    pool = manifest["provenance"].get("pool_images")
    if not pool:
        return "and from nothing else"
    return f"and from {pool} others of its train split, with the labels that a classifier of these gave them"


def _opening(manifest: Mapping[str, Any], width: int, height: int) -> str:
    if manifest["real_images"]:
        origin = (
            f"{manifest['real_images']} of the {manifest['images']} images are real: their ids begin with `real-`, and"
            " their column `synthetic` is false. The others are synthetic."
        )
    else:
        origin = "None of these images is real."
    return f"{origin} They are {width}×{height} {'in colour (RGB)' if _in_colour(manifest) else 'greyscale'}."


def _in_colour(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("channels") == 3


def _read_with(manifest: Mapping[str, Any]) -> str:
    text = _READ_WITH[manifest["format"]]
    for grey, colour in _GREY_AND_COLOUR if _in_colour(manifest) else ():
        text = text.replace(grey, colour)
    return text


def _filtered(manifest: Mapping[str, Any]) -> str:
    applied = manifest["label_filter"]
    if applied is None:
        return "No image was left out: no filter was applied."
    share = sum(applied["accepted"]) / sum(applied["of"])
    return (
        "Filtered: kept is what a classifier gives its label with probability"
        f" {applied['minimum_label_score']:g} or more, {share:.1%} of what was generated"
        f" (classifier `{applied['classifier_sha256']}`)."
    )


def _replicate(made: Mapping[str, Any]) -> str:
    """Its number, counted from 1 as in the tables; nothing for images that no study made."""
    return "" if made["replicate"] is None else f", replicate {made['replicate'] + 1}"


def advice(study: Mapping[str, Any] | None) -> str:
    """Whether the images help, as far as the study knows."""
    return (
        f"Do they help? {study['note']}" if study else "Whether they help a classifier was not studied here."
    )


def memorisation(metrics: Mapping[str, Any] | None) -> str:
    """What the memorisation gate said, in a sentence."""
    found = (metrics or {}).get("memorization")
    if not found:
        return "Not checked: whether an image resembles one of the training images."
    verdict = "passed" if found["passed"] else "**NOT passed**"
    return f"The memorisation gate (images too close to training images) was {verdict}: {found['reason']}."


def quality_table(metrics: Mapping[str, Any] | None) -> str:
    """The generative metrics beside floor and copycat, in Markdown."""
    if not metrics:
        return "Not measured here."
    columns = [name for name in _METRICS if name in metrics["synthetic"]]
    lines = [f"| images | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for key, name in (
        ("synthetic", "these synthetic images"),
        ("floor", "floor: real validation images"),
        ("copycat", "copycat: the generator's training images + noise"),
    ):
        if key in metrics:
            values = " | ".join(_number(metrics[key].get(column)) for column in columns)
            lines.append(f"| {name} | {values} |")
    return (
        f"Measured with n = {metrics['n']} against as many real test images, in the features of the network"
        f" `{metrics['extractor_sha256']}`; before any filter.\n\n" + "\n".join(lines)
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _counts(manifest: Mapping[str, Any]) -> str:
    columns: dict[str, list[Any]] = {
        "class": [as_markdown(name) for name in manifest["class_names"]],
        "synthetic": manifest["counts"],
    }
    if manifest["real_images"]:
        columns["real"] = manifest["real_counts"]
    if folders := manifest.get("class_folders"):
        columns["folder"] = [as_markdown(name) for name in folders]
    lines = [
        f"| label | {' | '.join(columns)} |",
        f"| --- |{''.join(' ---: |' if name in ('synthetic', 'real') else ' --- |' for name in columns)}",
    ]
    for label, row in enumerate(zip(*columns.values(), strict=True)):
        lines.append(f"| {label} | {' | '.join(map(str, row))} |")
    return "\n".join(lines)
