"""Labelled synthetic images from a generator: image i of a class depends on (seed, label, i) and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri

from pipeline.errors import SynthGainError
from pipeline.gan.networks import Generator, Latents, uint8_from_images
from pipeline.images import LabeledImages
from pipeline.runtime.progress import Advance
from pipeline.runtime.seeds import derive_seed

# The generator always runs on whole blocks of this many latents, counted from index 0 of a class. A convolution
# may round the last bit differently for another batch shape or another place in the batch, and a flipped bit can
# flip a grey level: with a fixed grid of blocks, image i is computed in the same place of the same block however
# many images are asked for, and from wherever. Changing the number may change single grey levels.
BLOCK = 250
# What tanh gives from 8.3 on: grey levels end at 0.996.
_SATURATED = 1 - 1e-7


def sample_z(
    seed: int, label: int, start: int, count: int, z_dim: int, latents: Latents = "normal"
) -> npt.NDArray[np.float32]:
    """Latents start..start+count−1 of a class, (count, z_dim) float32 ~ N(0, 1), or uniform in −1..1.

    The counter of a Philox generator (Salmon et al. 2011) is moved to `start`: row i does not depend on the rows
    that are drawn with it. The normal quantile turns one 53-bit uniform into one latent, so that the position of
    each row in the stream is known.
    """
    counters = -(-z_dim // 4)  # one counter gives four 64-bit words
    bits = np.random.Philox(key=derive_seed(seed, "z", label))
    bits.advance(start * counters)
    words = bits.random_raw(count * counters * 4).reshape(count, counters * 4)[:, :z_dim]
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    z: npt.NDArray[np.float32] = (ndtri(uniform) if latents == "normal" else 2 * uniform - 1).astype(
        np.float32
    )
    return z


def z_sha256(
    seed: int,
    label: int,
    indices: npt.NDArray[np.int64],
    z_dim: int,
    *,
    latent_std: float = 1.0,
    latents: Latents = "normal",
) -> list[str]:
    """The hash of each of these latents of a class, times `latent_std`: of its float32 bytes, little-endian."""
    hashes: dict[int, str] = {}
    for block in np.unique(indices // BLOCK).tolist():
        z = sample_z(seed, label, block * BLOCK, BLOCK, z_dim, latents) * np.float32(latent_std)
        for index in indices[indices // BLOCK == block].tolist():
            hashes[index] = hashlib.sha256(z[index % BLOCK].astype("<f4").tobytes()).hexdigest()
    return [hashes[index] for index in indices.tolist()]


def latent_hashes(
    provenance: Mapping[str, Any],
) -> Callable[[int, npt.NDArray[np.int64]], list[str]] | None:
    """`z_sha256` for the images of this provenance, None if it does not say enough."""
    seed, z_dim, latents = (
        provenance.get("seed"),
        provenance.get("z_dim"),
        provenance.get("latents", "normal"),
    )
    if not isinstance(seed, int) or not isinstance(z_dim, int) or latents not in get_args(Latents):
        return None
    latent_std = float(provenance.get("latent_std", 1.0))
    return lambda label, indices: z_sha256(
        seed, label, indices, z_dim, latent_std=latent_std, latents=latents
    )


@torch.no_grad()
def sample_images(
    generator: Generator,
    *,
    seed: int,
    label: int,
    start: int,
    count: int,
    latent_std: float = 1.0,
    device: torch.device,
) -> npt.NDArray[np.uint8]:
    """Images start..start+count−1 of a class: (count, C, H, W) uint8. Any split of a range gives the same bytes.

    `latent_std` spreads the latents: z ~ N(0, latent_std²). A generator is trained at 1; above it the images
    are more varied and less typical, below it the reverse (truncation).

    Raises:
        SynthGainError: if the generator gives no images: values that are not finite, black and white alone in most
            of a block, or one picture for all latents.
    """
    first, end = start // BLOCK * BLOCK, start + count
    blocks = []
    for block in range(first, end, BLOCK):
        latents = sample_z(seed, label, block, BLOCK, generator.z_dim, generator.latents)
        z = torch.from_numpy(latents * np.float32(latent_std)).to(device)
        labels = torch.full((BLOCK,), label, dtype=torch.int64, device=device)
        values = generator(z, labels)
        images = uint8_from_images(values).cpu().numpy()
        _refuse_no_images(values, images, label)
        blocks.append(images)
    return np.concatenate(blocks)[start - first : end - first]


def _refuse_no_images(values: torch.Tensor, images: npt.NDArray[np.uint8], label: int) -> None:
    """Weights that are damaged, or grew without bound, give valid files of nothing; a cast would hide it.

    A trained generator of MNIST has half of its pixels at exactly -1, the background. But its images have edges: in
    each, some pixel lies between black and white. And of a block of latents, no two give the same picture; a class of
    one picture is refused by `prepare`.
    """
    at_the_ends = (values.abs() >= _SATURATED).flatten(1).all(1)
    if not torch.isfinite(values).all():
        found = "are no finite numbers"
    elif (count := int(at_the_ends.sum())) > len(values) / 2:
        found = f"are all at the ends of their range (-1 or 1) in {count} of {len(values)} images"
    elif (images == images[0]).all():
        found = "are one and the same picture for every latent"
    else:
        return
    raise SynthGainError(
        f"generator: its values for label {label} {found}, so they are no images; its weights are damaged or the"
        " training diverged: train it again with lower learning rates"
    )


def interleaved(parts: Sequence[LabeledImages]) -> LabeledImages:
    """The images of several generators in equal parts: image i of a class is that of generator i mod their number.

    They are all made with the same seed, so an image still depends on (seed, label, i) and the generators alone.

    Args:
        parts: what `synthetic_images` made with each, of equal counts; a single part is returned as it is.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    images = first.images.copy()
    place = np.arange(len(first)) % int(first.provenance["images_per_class"])
    for member, part in enumerate(parts):
        chosen = place % len(parts) == member
        images[chosen] = part.images[chosen]
    hashes = [str(part.provenance["generator_sha256"]) for part in parts]
    return LabeledImages(
        images,
        first.labels,
        first.class_names,
        {
            **first.provenance,
            "gan_seed": [part.provenance["gan_seed"] for part in parts],
            "generators_sha256": hashes,
            "generator_sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
        },
    )


def synthetic_images(
    generator: Generator,
    *,
    class_names: tuple[str, ...],
    images_per_class: int,
    seed: int,
    latent_std: float = 1.0,
    provenance: Mapping[str, Any],
    device: torch.device,
    advance: Advance,
) -> LabeledImages:
    """Exactly `images_per_class` images of each class, class after class; `latent_std` as in `sample_images`.

    The provenance gains what makes them again: seed, z_dim, count, latent_std where it is not 1, and latents where they
    are not normal.
    """
    images = np.empty((generator.num_classes, images_per_class, *generator.image_shape), dtype=np.uint8)
    for label in range(generator.num_classes):
        for start in range(0, images_per_class, BLOCK):
            count = min(BLOCK, images_per_class - start)
            images[label, start : start + count] = sample_images(
                generator,
                seed=seed,
                label=label,
                start=start,
                count=count,
                latent_std=latent_std,
                device=device,
            )
            advance(count)
    return LabeledImages(
        images.reshape(-1, *images.shape[2:]),
        np.arange(generator.num_classes, dtype=np.int64).repeat(images_per_class),
        class_names,
        {
            **provenance,
            "kind": "synthetic",
            "seed": seed,
            "z_dim": generator.z_dim,
            "images_per_class": images_per_class,
            **({"latent_std": latent_std} if latent_std != 1 else {}),
            **({"latents": generator.latents} if generator.latents != "normal" else {}),
        },
    )
