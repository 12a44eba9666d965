"""Where the real data sets come from, and under which licence: what a card has to say of its source.

Taken from the data sets' own pages and repositories and from the documentation of Keras and scikit-learn. What none of
these states is called not confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RealSource:
    """A real data set.

    Attributes:
        name: as its authors call it.
        licence: its name, and who says so where that is not the authors; or that it is not confirmed, and why.
        licence_url: its text, empty where there is none to point at or the licence is not confirmed.
        citation: the work to cite.
    """

    name: str
    licence: str
    licence_url: str
    citation: str


_MNIST = "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition, 1998"
_EMNIST = RealSource(
    "EMNIST",
    "not confirmed. NIST's page (https://www.nist.gov/itl/products-and-services/emnist-dataset) names none; the US"
    " federal catalogue lists what it was made from, Special Database 19, under https://www.nist.gov/open/license",
    "",
    "G. Cohen, S. Afshar, J. Tapson, A. van Schaik: EMNIST: an extension of MNIST to handwritten letters, 2017",
)
REAL_SOURCES = {
    "mnist": RealSource(
        "MNIST",
        "CC BY-SA 3.0 (as the documentation of Keras states)",
        "https://creativecommons.org/licenses/by-sa/3.0/",
        _MNIST,
    ),
    "fashion_mnist": RealSource(
        "Fashion-MNIST",
        "MIT",
        "https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE",
        "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017",
    ),
    "kmnist": RealSource(
        "Kuzushiji-MNIST",
        "CC BY-SA 4.0",
        "https://creativecommons.org/licenses/by-sa/4.0/",
        "T. Clanuwat et al.: Deep learning for classical Japanese literature, arXiv:1812.01718, 2018",
    ),
    "cifar10": RealSource(
        "CIFAR-10",
        "not confirmed. Its page (https://www.cs.toronto.edu/~kriz/cifar.html) names none; the images come from the"
        " Tiny Images collection, which its authors withdrew",
        "",
        "A. Krizhevsky: Learning multiple layers of features from tiny images, technical report, 2009",
    ),
    "svhn": RealSource(
        "SVHN (Street View House Numbers, cropped digits)",
        "not confirmed. Its page (http://ufldl.stanford.edu/housenumbers/) names none, and says: for non-commercial use"
        " only",
        "",
        "Y. Netzer et al.: Reading digits in natural images with unsupervised feature learning, 2011",
    ),
    "emnist_balanced": _EMNIST,
    "emnist_digits": _EMNIST,
    "emnist_letters": _EMNIST,
    "digits": RealSource(
        "Optical Recognition of Handwritten Digits (scikit-learn's embedded digits)",
        "not confirmed. scikit-learn, which ships the images, names none; they come from the UCI repository"
        " (https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits)",
        "",
        "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    ),
}


def real_source(name: str) -> RealSource:
    """The real data set behind a `data.source`."""
    own = RealSource("images of your own (a folder)", "that of those images; ask who gave them", "", "")
    unknown = RealSource(f"{name} (not stated)", "not stated; ask who made the generator", "", "")
    return REAL_SOURCES.get(name, own if name == "folder" else unknown)
