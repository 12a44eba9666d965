"""The arms: every training recipe that is compared. To add an arm, add a row to the table at the end.

A row is one arm, or one for each augmentation policy: a new policy is one entry, in `augmentation/policies.py`. Both
files are data: the parameters are validated against them, and no result may depend on them. A classifier depends on
what its own row says, as values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pipeline.augmentation.policies import POLICIES

Images = Literal["real", "real_repeated", "real_and_synthetic", "synthetic", "real_and_extra"]
Place = Literal["baselines", "controls", "augmented", "fill", "pool"]
# What an arm makes of the pool: nothing; labels that a classifier of the real subset gave it; labels that it finds
# itself as it trains; or the true ones, which a study cannot have.
PoolUse = Literal["", "pseudo_label", "consistency", "labelled_pool"]
_POOL_WORDS: Mapping[PoolUse, str] = {
    "pseudo_label": "pool with pseudo-labels",
    "consistency": "pool by consistency",
    "labelled_pool": "labelled pool",
}
Remedy = Literal["class_weights", "deferred_weights", "balanced_sampling", "logit_adjustment"]

# What an arm is called, in params.yaml and for people, by its images and whether they are for rare classes only.
_NAMES: Mapping[tuple[Images, bool], tuple[str, str]] = {
    ("real", False): ("real", "real only"),
    ("real_repeated", False): ("repeat", "real, repeated"),
    ("real_and_synthetic", False): ("synthetic", "real + {options}synthetic"),
    ("synthetic", False): ("synthetic_only", "{options}synthetic only"),
    ("real_and_extra", False): ("extra_real", "real + extra real"),
    ("real_repeated", True): ("fill_repeat", "rare classes repeated"),
    ("real_and_synthetic", True): ("fill_synthetic", "rare classes + {options}synthetic"),
    ("real_and_extra", True): ("fill_extra_real", "rare classes + extra real"),
}
# In words, what is done for rare classes without another image; on the real subset alone it names the arm.
_REMEDIES: Mapping[Remedy, str] = {
    "class_weights": "rare classes weighted",
    "deferred_weights": "rare classes weighted at the end",
    "balanced_sampling": "classes drawn alike",
    "logit_adjustment": "logits adjusted",
}


@dataclass(frozen=True)
class Arm:
    """One training recipe that is compared: which images × which augmentation policy × options.

    Attributes:
        images: what it trains on.
        policy: its classic augmentation, a row of `pipeline/augmentation/policies.py`.
        filtered: whether its synthetic images are only those whose label classifiers of the real subset agree with.
        fresh: whether each epoch over the real images draws other synthetic ones from all that were generated.
        rare_only: whether it is about rare classes: the images beyond the real subset go to them only, up to the common
            count; an arm on the real subset alone has a remedy. Such an arm needs rare classes.
        remedy: what is done for rare classes without another image (docs/numbers.md has the formulas); or None.
        copies_only: whether the policy is for the images beyond the real subset only.
        pool: what it makes of the pool, whose images it sees beside all others in each step.
        own_name: where the name is not the one that follows from all this.
    """

    images: Images
    policy: str = "none"
    filtered: bool = False
    fresh: bool = False
    rare_only: bool = False
    remedy: Remedy | None = None
    copies_only: bool = False
    pool: PoolUse = ""
    own_name: str = ""

    @cached_property
    def name(self) -> str:
        """As in `study.arms`; unique together with the ratio. MLflow's metrics are named after it."""
        policy = [self.policy] if self.augmented else []
        return self.own_name or "_".join([*self._stem, *self._options, *policy])

    @property
    def words(self) -> str:
        """For people: `real + fresh synthetic, affine + elastic`."""
        options = "".join(f"{option} " for option in self._options)
        words = ", ".join(text.format(options=options) for text in self._stem.values())
        copies = "copies " if self.copies_only else ""
        return f"{words}, {copies}{policy_words(self.policy)}" if self.augmented else words

    @property
    def pool_words(self) -> str:
        """What it makes of the pool, for people: `pool with pseudo-labels`; empty if nothing."""
        return _POOL_WORDS.get(self.pool, "")

    @property
    def short_words(self) -> str:
        """The same for a legend: `+ fresh synthetic, affine + elastic`, `affine + elastic`."""
        return self.words.replace("real only, ", "").replace("real + ", "+ ")

    @property
    def _stem(self) -> Mapping[str, str]:
        """The parts of its name before options and policy, each with its words."""
        if self.remedy is not None and self.images == "real":
            return {self.remedy: _REMEDIES[self.remedy]}
        name, words = _NAMES[self.images, self.rare_only]
        if self.pool:
            name = f"{self.pool}_{name}" if self.uses_synthetic else self.pool
            words = f"{words.removesuffix(' only')} + {self.pool_words}"
        return {name: words} if self.remedy is None else {name: words, self.remedy: _REMEDIES[self.remedy]}

    @property
    def _options(self) -> list[str]:
        return [*(["fresh"] if self.fresh else []), *(["filtered"] if self.filtered else [])]

    @property
    def augmented(self) -> bool:
        """Whether its policy changes images."""
        return self.policy != "none"

    @property
    def baseline(self) -> str | None:
        """The arm that it is compared with: the same training without what this one adds."""
        alone = self.images == "real" and not (self.pool or self.remedy)
        policy = "none" if self.copies_only or alone else self.policy
        baseline = "real" if policy == "none" else f"real_{policy}"
        return None if self.name == baseline else baseline

    @property
    def upper_bound(self) -> str | None:
        """Of an arm with other real images: the arm whose synthetic images they stand for."""
        if self.images != "real_and_extra":
            return None
        return Arm("real_and_synthetic", self.policy, rare_only=self.rare_only).name

    @property
    def fills_half(self) -> bool:
        """Whether its images fill half of the gap, on a scale of logarithms: adjusted logits make up for the rest."""
        return self.remedy == "logit_adjustment" and self.images != "real"

    @property
    def place(self) -> Place:
        """The stage that trains it, `train_<place>`: a change of the GAN or a new ratio retrains no other."""
        if self.rare_only:
            return "fill" if self.uses_synthetic else "baselines"
        if self.images == "real":
            return "pool" if self.pool else "baselines"
        return "augmented" if self.uses_synthetic else "controls"

    @property
    def uses_real(self) -> bool:
        """Whether the real subset is among its training images."""
        return self.images != "synthetic"

    @property
    def uses_synthetic(self) -> bool:
        """Whether synthetic images are among its training images."""
        return self.images in ("real_and_synthetic", "synthetic")

    @property
    def uses_extra(self) -> bool:
        """Whether real images beyond the budget are among its training images: what a study cannot have."""
        return self.images == "real_and_extra"

    @property
    def may_be_left_out(self) -> bool:
        """Whether a study may go on without it: too few extra real images, or pseudo-labels that teach nothing."""
        return self.uses_extra or self.pool == "pseudo_label"

    @property
    def needs_no_generator(self) -> bool:
        """Whether anyone with these images could train it: on the real subset, with the pool or without."""
        return self.images == "real" and not self.rare_only and self.pool != "labelled_pool"

    @property
    def adds_synthetic(self) -> bool:
        """Whether it is real images and synthetic ones of all classes: what the study asks about."""
        return self.images == "real_and_synthetic" and not self.rare_only


def policy_words(policy: str) -> str:
    """For people: `affine + elastic`."""
    return {"trivial_augment": "TrivialAugment"}.get(policy, " + ".join(policy.split("_")))


def arms_at(place: Place, names: Sequence[str]) -> list[Arm]:
    """Those of the named arms that a stage trains, in the order of the table."""
    return [arm for arm in ARMS.values() if arm.place == place and arm.name in names]


def _with_each_policy(arm: Arm) -> list[Arm]:
    return [replace(arm, policy=policy) for policy in POLICIES]


_TABLE = (
    # On the real subset alone.
    *_with_each_policy(Arm("real")),
    # For a real subset with rare classes: what brings them up to the common count, or to `study.fill_to`.
    *_with_each_policy(Arm("real", rare_only=True, remedy="class_weights")),
    *_with_each_policy(Arm("real", rare_only=True, remedy="deferred_weights")),
    *_with_each_policy(Arm("real", rare_only=True, remedy="balanced_sampling")),
    *_with_each_policy(Arm("real", rare_only=True, remedy="logit_adjustment")),
    Arm("real_repeated", "affine", rare_only=True, copies_only=True, own_name="fill_affine"),
    *_with_each_policy(Arm("real_repeated", rare_only=True)),
    Arm("real_and_extra", rare_only=True),
    *_with_each_policy(Arm("real_and_synthetic", rare_only=True)),
    *_with_each_policy(Arm("real_and_synthetic", rare_only=True, remedy="deferred_weights")),
    *_with_each_policy(Arm("real_and_synthetic", rare_only=True, remedy="logit_adjustment")),
    # With synthetic images, at every ratio above 0.
    *_with_each_policy(Arm("real_and_synthetic")),
    Arm("synthetic"),
    *_with_each_policy(Arm("real_and_synthetic", filtered=True)),
    *_with_each_policy(Arm("real_and_synthetic", fresh=True)),
    *_with_each_policy(Arm("real_and_synthetic", fresh=True, filtered=True)),
    # With `study.pool`. A weak and a strong augmentation make consistency: a policy that does nothing has neither.
    *_with_each_policy(Arm("real", pool="pseudo_label")),
    *[arm for arm in _with_each_policy(Arm("real", pool="consistency")) if arm.augmented],
    *_with_each_policy(Arm("real", pool="labelled_pool")),
    *_with_each_policy(Arm("real_and_synthetic", fresh=True, pool="pseudo_label")),
    # At every ratio above 0, with other images in the place of the synthetic ones. Equal steps on repeated real images
    # show what size alone does; extra real images are the upper bound.
    Arm("real_repeated"),
    *_with_each_policy(Arm("real_and_extra")),
)
ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _TABLE}
