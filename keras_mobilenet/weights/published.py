"""The ImageNet weights that Keras publishes for MobileNetV1 and V2: which there are, their sums, and the cache."""

import hashlib
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import h5py
import keras

DEFAULT_SIZE = 224  # pixels; stands in for a size that is not published, where there is no classifier


@dataclass(frozen=True)
class Release:
    """The published files of one network.

    Attributes:
        title: The builder's name.
        url: Folder of the files.
        sizes: Width multiplier -> the input sizes, in pixels, that it was trained for.
        name: File name, of alpha, size and what stands for "without the classifier".
        alpha_texts: Width multiplier -> its text in file names.
    """

    title: str
    url: str
    sizes: Mapping[float, tuple[int, ...]]
    name: str
    alpha_texts: Mapping[float, str]

    def file_name(self, alpha: float, size: int, include_top: bool) -> str:
        """Name of the file of a published alpha and size."""
        return self.name.format(self.alpha_texts[alpha], size, "" if include_top else "_no_top")

    def files(self) -> Iterator[str]:
        """Names of all files."""
        for alpha, sizes in self.sizes.items():
            for size in sizes:
                yield from (self.file_name(alpha, size, include_top) for include_top in (True, False))


_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"

RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        "mobilenet_v1": Release(
            title="MobileNetV1",
            url=_STORE + "mobilenet/",
            sizes=dict.fromkeys((0.25, 0.5, 0.75, 1.0), (128, 160, 192, 224)),
            name="mobilenet_{}_{}_tf{}.h5",
            alpha_texts={0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"},
        ),
        "mobilenet_v2": Release(
            title="MobileNetV2",
            url=_STORE + "mobilenet_v2/",
            sizes=dict.fromkeys((0.35, 0.5, 0.75, 1.0), (96, 128, 160, 192, 224)) | {1.3: (224,), 1.4: (224,)},
            name="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_{}{}.h5",
            alpha_texts={alpha: str(alpha) for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
        ),
    }
)

# SHA-256 of V1's files as Keras's own development branch lists them (keras/src/applications/mobilenet.py); that of
# mobilenet_2_5_224_tf_no_top.h5 was also taken from the file itself. For V2, Keras lists none: of two files MD5 sums
# are in public use. Of V2's other 42 files no sum is known; they are taken if they are whole HDF5 files that fit.
SUMS: Mapping[str, str] = MappingProxyType(
    {
        "mobilenet_1_0_128_tf.h5": "ef1480dcb7f11a75bc5187a74863b3b97c4cfed6b6dd5c78f003ba002a4d7fe6",
        "mobilenet_1_0_128_tf_no_top.h5": "8fbb8332b956430de61ad4fa1ab261ab5b7922ef1d0f38c30056a485ec0d4ecb",
        "mobilenet_1_0_160_tf.h5": "a41aa0195ebe0a5301ab90af589155b42671f78704fd9a2e7dda919c478cd479",
        "mobilenet_1_0_160_tf_no_top.h5": "22d25b67a8936869b5f0d0c840ba150c90dc89c0b07f8aacd387614be67845d2",
        "mobilenet_1_0_192_tf.h5": "bd7e7f6a7cd6690a10aedba3e93bec811240418bd9179546e50c0f4c35899a01",
        "mobilenet_1_0_192_tf_no_top.h5": "d67556231564ded95aaa7a44004c73aa9696fba267a6817f430eee097af11782",
        "mobilenet_1_0_224_tf.h5": "006a2d9484fbea625dd4e6518652c101a3eca052671671c56265fc84f2e1181f",
        "mobilenet_1_0_224_tf_no_top.h5": "9f9cfd8c925431c06ce96744e1d201575f6a681bf38ae2de38e2ae8f7d7829d3",
        "mobilenet_2_5_128_tf.h5": "fe295db7f78635f1403127e3ba8cdc6237f83262bdb745063a67c1d81190c7f8",
        "mobilenet_2_5_128_tf_no_top.h5": "7d8b7f3c9555cb4579f9659ee233a540e66fd7ad514c0a8b14493b667447c5d6",
        "mobilenet_2_5_160_tf.h5": "74b32700eb3f6fb8d0b3f416c3fb52ab5eca35dc82393341eb7bb52676b6b003",
        "mobilenet_2_5_160_tf_no_top.h5": "c2f18432229c945b816f8b9f9cfa40d2964454b033efea804f6cd03942865bd4",
        "mobilenet_2_5_192_tf.h5": "22a302e8a39e545c7372ca96fe8698e3cbbc7d3906f60316e0617c15616f8894",
        "mobilenet_2_5_192_tf_no_top.h5": "4b7370b9880577f12f31942049d19610a4559c8af38f39dc67d1f90ec9663aa1",
        "mobilenet_2_5_224_tf.h5": "98d047950e59f478af63681720906940efc8ce8cecb95bce5c7b47394f8bd63d",
        "mobilenet_2_5_224_tf_no_top.h5": "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf",
        "mobilenet_5_0_128_tf.h5": "26752cdb9ab8459c85fb4cd0f45475bbd3bd25f9225b87bbedd474f5976da145",
        "mobilenet_5_0_128_tf_no_top.h5": "7f9871530e19990a9a180626566fcc32fb487c70880306592cae219d67179635",
        "mobilenet_5_0_160_tf.h5": "71c742137645f19426ea3540bb2933310b0a5f2d3a2d09ee1aea91e348f6fba7",
        "mobilenet_5_0_160_tf_no_top.h5": "7b15a4d22079138dd889a78cdea8d921a3b73cf7d313ff12f23634c4f71bcace",
        "mobilenet_5_0_192_tf.h5": "fabfe055bd26ea40c1c0798c4e22fe1eb437feab111be9f1f722360dff81e040",
        "mobilenet_5_0_192_tf_no_top.h5": "b848a83f140e284973d80805dc4c184a0a885dadcc1700630a86879c9103d5b1",
        "mobilenet_5_0_224_tf.h5": "b4b134ed41de14fd8d6717ab4e88b53e3113194acae392bc41c012ba463906bb",
        "mobilenet_5_0_224_tf_no_top.h5": "df860c59562f4c4af7a2fb2ae90731caef39fd5d03e5fcd6ca46988965f0a4b7",
        "mobilenet_7_5_128_tf.h5": "cafcb7455c36187c93eb7fb3a68e29f76b5761cb2d946d57d1967578e3b05361",
        "mobilenet_7_5_128_tf_no_top.h5": "dcc5aaa418bbf397a431e79a52be0ad1a61fb6364a9bb6d68b5258f13669c8ba",
        "mobilenet_7_5_160_tf.h5": "3ee6f1daa0f9da149bec3311eacfb4451ca236bc126dc25ee191f5bdc6e641be",
        "mobilenet_7_5_160_tf_no_top.h5": "6056d87ad4e3b341cc8272d68b54a8a113ef0b0e5ab1399e4a801d2942a064fa",
        "mobilenet_7_5_192_tf.h5": "a7a2364ee404c19301edb827de693f46eeb46aad13e2c5e73494545e57749eef",
        "mobilenet_7_5_192_tf_no_top.h5": "b8ea4352b99a87552c0b84c59b59d146b823b684766026ed8f0c68d3aab9e677",
        "mobilenet_7_5_224_tf.h5": "811e0307a7e8895a180b81c191033482d99470a0604ea8e88e8d947005067d84",
        "mobilenet_7_5_224_tf_no_top.h5": "1da9019b66f05a0256dedfed0f321fcaf8bfa71f9facf3f9117e62820be39aa5",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5": "321911b381f6fd09b744356f6796ee18",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5": "f1a68526548f7541cda07e19ba6c85f4",
    }
)


def choose(network: str, alpha: float, size: tuple[int | None, int | None], include_top: bool) -> str:
    """Chooses the published file for a network.

    Args:
        network: "mobilenet_v1" or "mobilenet_v2".
        alpha: Width multiplier.
        size: (height, width) of the input in pixels, None where it is open.
        include_top: Whether the network ends in the classifier.

    Returns:
        The file's name. Without the classifier, a size that is not published takes the file of 224, with a warning.

    Raises:
        ValueError: There is none; the message lists what there is, and the nearest that would load.
    """
    release = RELEASES[network]
    published = next((a for a in release.sizes if math.isclose(a, alpha, rel_tol=1e-6)), None)
    height, width = size
    if published is not None and height == width and height in release.sizes[published]:
        return release.file_name(published, height, include_top)
    if published is None or include_top:
        raise ValueError(_unpublished(release, alpha, size, include_top))
    warnings.warn(
        f"No weights are published for {release.title} alpha={published:g} at {_text(size)}: loading those of "
        f"{DEFAULT_SIZE} x {DEFAULT_SIZE}. Published sizes: {_sizes(release.sizes[published])}.",
        stacklevel=4,
    )
    return release.file_name(published, DEFAULT_SIZE, include_top)


def fetch(network: str, name: str) -> Path:
    """Finds a published file in Keras's cache, or downloads it there.

    A file appears under its name only when it is complete and its sum, where one is known, is right. A cached file that
    is not is kept until its replacement is there.

    Args:
        network: "mobilenet_v1" or "mobilenet_v2".
        name: The file's name.

    Returns:
        Its path.

    Raises:
        OSError: It can't be downloaded; the message says from where, to where, and what to do instead.
    """
    path = cache_folder() / name
    cached = _damage(path, SUMS.get(name)) if path.exists() else "it is not in the cache"
    if cached is None:
        return path
    url = RELEASES[network].url + name
    try:
        _download(url, path)
    except Exception as error:  # keras.utils.get_file raises a bare Exception where the network fails
        raise OSError(
            f"The published weights {name} could not be loaded: {cached}, and downloading {url} failed ({error}). Put "
            f"the file at {path}, or pass another one with `weights=<file>`, or start from random weights with "
            "`weights=None`."
        ) from error
    return path


def cache_folder() -> Path:
    """The folder in which Keras keeps downloaded weights: `models` in $KERAS_HOME, ~/.keras or /tmp/.keras."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return (home if os.access(existing, os.W_OK) else Path("/tmp/.keras")) / "models"  # as keras.utils.get_file does


def _download(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the move is a rename; the folder goes with all it holds, whatever happens.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        file = keras.utils.get_file(path.name, url, cache_dir=folder, cache_subdir="", file_hash=SUMS.get(path.name))
        damage = _damage(Path(file), SUMS.get(path.name))
        if damage:
            raise OSError(damage)
        os.replace(file, path)


def _damage(path: Path, expected: str | None) -> str | None:
    """What is wrong with a file, or None."""
    if not path.is_file():
        return f"{path} is not a file"
    if expected is None:
        try:
            with h5py.File(path, "r"):
                return None
        except OSError as error:
            return f"{path} is damaged ({error})"
    algorithm = "sha256" if len(expected) == 64 else "md5"
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    return None if found == expected else f"{path} has the {algorithm} {found}, the published file {expected}"


def _unpublished(release: Release, alpha: float, size: tuple[int | None, int | None], include_top: bool) -> str:
    nearest = min(release.sizes, key=lambda published: abs(math.log(published / alpha)))
    sides = [side for side in size if side is not None] or [DEFAULT_SIZE]
    side = min(release.sizes[nearest], key=lambda published: abs(published - sum(sides) / len(sides)))
    groups: dict[tuple[int, ...], list[str]] = {}
    for width, sizes in release.sizes.items():
        groups.setdefault(sizes, []).append(f"{width:g}")
    listing = "; ".join(f"alpha {', '.join(alphas)} at {_sizes(sizes)}" for sizes, alphas in groups.items())
    headless = "" if include_top else " (without the classifier, at any size)"
    return (
        f'`weights="imagenet"` is not published for {release.title} with alpha={alpha:g} at {_text(size)}. Published: '
        f"{listing}{headless}. The nearest that would load: alpha={nearest:g}, input_shape=({side}, {side}, 3). Or "
        "pass `weights=None`, or a file."
    )


def _sizes(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes)) + " pixels"


def _text(size: tuple[int | None, int | None]) -> str:
    return "an open size" if None in size else f"{size[0]} x {size[1]} pixels"
