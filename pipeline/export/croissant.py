"""croissant.json: the data set in the words of MLCommons Croissant 1.0, for search engines and loaders.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.export.card import citation
from pipeline.export.table import COLUMNS

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "bool": "sc:Boolean", "float": "sc:Float"}
_ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".arrow": "application/vnd.apache.arrow.file",
    ".npz": "application/zip",
    ".gz": "application/gzip",
    ".txt": "text/plain",
}
_ABOUT = {
    "id": "The sample's id, the same in every format.",
    "label": "The label, from 0: the class that the generator was asked for.",
    "synthetic": "Whether the image is synthetic.",
    "seed": "The seed of the generation.",
    "z_sha256": "SHA-256 of the latent vector, float32 little-endian.",
    "generator_sha256": "SHA-256 of the generator's file; of several generators, of their hashes.",
    "label_score": "The probability of the label in a classifier's eyes, where a filter was applied.",
    "nearest_real_distance": "The distance to the nearest real training image, where it is known.",
    "pixel_sha256": "SHA-256 of the pixels, uint8 in row order.",
}


def _maker(manifest: Mapping[str, Any]) -> str:
    made = manifest["provenance"].get("generator")
    return (
        f"a conditional GAN that learned from {manifest['source']['name']}"
        if made is None
        else f"{made['name']} by {made['author']}, beside real images of {manifest['source']['name']}"
    )


def croissant(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The Croissant of a data set, from its manifest."""
    source = manifest["source"]
    tables = [path for path in manifest["files"] if path.endswith(".parquet")]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"synthetic-{source['key'].replace('_', '-')}-{manifest['pixel_sha256'][:16]}",
        "description": (
            f"Synthetic images made by {_maker(manifest)}:"
            f" {manifest['images']} images of {len(manifest['class_names'])} classes"
            f" ({manifest['real_images']} of them real). README.md has the limits."
        ),
        "license": source["licence_url"] or source["licence"],
        "version": f"{manifest['schema_version']}.0.0",
        "citeAs": citation(manifest),
        "isLiveDataset": False,
        "keywords": [
            "synthetic",
            *([] if "generator" in manifest["provenance"] else ["GAN"]),
            "image classification",
            manifest["format"],
        ],
        "distribution": _distribution(manifest["files"], tables),
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "description": "One record per image.",
                "key": {"@id": "samples/id"},
                "field": _fields(manifest, tables),
            }
        ],
    }


def _distribution(files: Mapping[str, Any], tables: list[str]) -> list[dict[str, Any]]:
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": f"{facts['bytes']} B",
            "encodingFormat": next(
                (kind for suffix, kind in _ENCODINGS.items() if path.endswith(suffix)),
                "application/octet-stream",
            ),
            "sha256": facts["sha256"],
        }
        for path, facts in sorted(files.items())
    ]
    if len(tables) > 1:
        distribution.append(
            {
                "@type": "cr:FileSet",
                "@id": "shards",
                "name": "shards",
                "description": "All shards, in this folder.",
                "encodingFormat": _ENCODINGS[".parquet"],
                "includes": "train-*.parquet",
            }
        )
    return distribution


def _fields(manifest: Mapping[str, Any], tables: list[str]) -> list[dict[str, Any]]:
    """The columns of the sample table; with the images where the table holds them."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"samples/{field.name}",
            "name": field.name,
            "description": _ABOUT[field.name],
            "dataType": _TYPES[str(field.type)],
            "source": {**_table(tables), "extract": {"column": field.name}},
        }
        for field in COLUMNS
    ]
    if manifest["format"] == "parquet":
        image = {
            "@type": "cr:Field",
            "@id": "samples/image",
            "name": "image",
            "description": f"The image, 8-bit {'RGB' if manifest.get('channels') == 3 else 'grey'}.",
            "dataType": "sc:ImageObject",
            "source": {
                **_table(tables),
                "extract": {"column": "image"},
                "transform": {"jsonPath": "bytes"},
            },
        }
        fields.insert(1, image)
    return fields


def _table(tables: list[str]) -> dict[str, Any]:
    return {"fileSet": {"@id": "shards"}} if len(tables) > 1 else {"fileObject": {"@id": tables[0]}}
