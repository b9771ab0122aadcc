"""Results of the download and of preprocessing: files, the size of the images, and the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mnist_bp.results.common import FileDigest

CacheOutcome = Literal["hit", "miss", "rebuilt"]


@dataclass(frozen=True)
class DatasetShape:
    """The size of a dataset's images, and what they show.

    Args:
        height, width: Of every image, in pixels.
        class_names: One for each label, in the order of the labels; at least two.
    """

    height: int
    width: int
    class_names: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """D, the number of pixels of an image."""
        return self.height * self.width

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def like_mnist(self) -> bool:
        """Whether size and classes are MNIST's."""
        return self == MNIST_SHAPE

    def has_lab_figure(self, test_images: int) -> bool:
        """Return whether the lab's figure is computed for a dataset like this with so many test images."""
        return self.like_mnist and test_images >= LAB_EXAMPLES


MAX_CLASSES: Final = 256
"""Classes of a dataset: a label is one byte."""

LAB_EXAMPLES: Final = 1_000
"""Source: the lab's evaluation loop, which scores the first 1,000 test images alone."""

MNIST_SHAPE: Final = DatasetShape(28, 28, tuple(map(str, range(10))))
"""The shape of MNIST, and of the datasets made like it."""


OwnKind = Literal["images", "idx", "parquet"]
"""Where images of the user's own come from: folders of pictures, IDX files, or Parquet files."""


@dataclass(frozen=True)
class OwnSource:
    """A place of the user's own images; see `mnist_bp.data.own`.

    Args:
        kind: What is found there.
        place: An absolute path, or s3://bucket/prefix.
        size: Width and height to convert pictures to, in pixels; None if all have one size.
        skip_unreadable: Whether pictures that cannot be read are left out, and counted.
    """

    kind: OwnKind
    place: str
    size: tuple[int, int] | None = None
    skip_unreadable: bool = False


@dataclass(frozen=True)
class SplitRule:
    """How test images were chosen where a dataset of the user's own has none.

    Args:
        one_in: Of each class, one image in so many, at least one.
        seed: Of the choice; the same for every run, so that runs are compared on the same images.
    """

    one_in: int
    seed: int


@dataclass(frozen=True)
class RawDataset:
    """The files of a dataset: the four IDX files as downloaded, or those of the user's own images.

    Args:
        name: Name of the dataset, never `auto`.
        files: Training images, training labels, test images, test labels; or the files of `own`, of which many
            count as one, with a digest over the names and digests of all.
        cache: `hit` if all files existed and were intact.
        notice: Why the bundled sample replaces MNIST, or None.
        own: Where images of the user's own are; None for a dataset that is downloaded.
    """

    name: str
    files: tuple[FileDigest, ...]
    cache: CacheOutcome
    notice: str | None = None
    own: OwnSource | None = None


@dataclass(frozen=True)
class CachedDataset:
    """A dataset in Parquet.

    Args:
        name: Name of the dataset.
        key: Digest of the downloaded files and the preprocessing code.
        train, test: One Parquet file for each split.
        train_examples, test_examples: Rows of each split.
        cache: `hit` if both files existed and were intact.
        rebuilt: Why an existing cache was replaced, or None.
        notice: See `RawDataset`.
        shape: Size of the images, and the classes.
        skipped: Number of pictures of the user's own that could not be read and were left out.
        test_split: How the test images were chosen; None where the dataset has test images.
    """

    name: str
    key: str
    train: FileDigest
    test: FileDigest
    train_examples: int
    test_examples: int
    cache: CacheOutcome
    rebuilt: str | None = None
    notice: str | None = None
    shape: DatasetShape = MNIST_SHAPE
    skipped: int = 0
    test_split: SplitRule | None = None
