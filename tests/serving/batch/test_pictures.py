import numpy as np
import pytest
from PIL import Image

pytest.importorskip("apache_beam", reason="batch prediction needs apache-beam")

import keras_mobilenet as km
from serving.batch import pictures
from serving.batch.pictures import BadPicture, Encoded


def formats(folder):
    """A picture in every form that the reader knows."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8)).resize((180, 120), Image.Resampling.BICUBIC)
    made = {"photo.jpg": photo, "grey.jpg": photo.convert("L"), "photo.png": photo, "photo.bmp": photo}
    made |= {"palette.gif": photo.quantize(), "palette.png": photo.quantize(), "alpha.png": photo.convert("RGBA")}
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    made |= {"deep.png": Image.fromarray(deep), "grey_alpha.png": photo.convert("LA")}
    for name, image in made.items():
        image.save(folder / name)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    photo.save(folder / "sideways.jpg", exif=sideways)
    return [folder / name for name in (*made, "sideways.jpg")]


def test_pixels_are_those_of_the_library(tmp_path, shared_data):
    photos = [shared_data / "photos" / name for name in ("parrot.jpg", "cat_720p.jpg", "grace_hopper.bmp")]
    for path in formats(tmp_path) + photos:
        encoded = pictures.read(str(path))
        expected = km.decode_and_resize(encoded.contents, (96, 128)).numpy()
        picture = pictures.decode(encoded, (96, 128))
        assert picture.data.shape == (1, 96, 128, 3) and picture.data.dtype == np.uint8
        difference = np.abs(picture.data[0].astype(int) - expected)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.2, path.name
        with Image.open(path) as image:
            assert picture.size == image.size


def test_what_is_wrong_is_said(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (300, 200), (9, 99, 199)).save(path)
    contents = path.read_bytes()
    huge = tmp_path / "huge.png"
    Image.new("1", (65_000, 1_000)).save(huge)
    cases = {b"": "no bytes", b"not a picture": "no JPEG, PNG", contents[:700]: "it is broken"}
    cases[huge.read_bytes()] = "65000 x 1000 pixels"
    for wrong, reason in cases.items():
        with pytest.raises(BadPicture, match=reason):
            pictures.decode(Encoded("x", wrong), (32, 32))
    with pytest.raises(BadPicture, match=r"cannot be read: .*No such file"):
        pictures.read(str(tmp_path / "none.jpg"))


def test_a_picture_for_a_server_stays_encoded(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (30, 20)).save(path)
    picture = pictures.check(pictures.read(str(path)))
    assert picture.data == path.read_bytes() and picture.size == (30, 20)
    with pytest.raises(BadPicture, match="no JPEG"):
        pictures.check(Encoded("x", b"text"))
