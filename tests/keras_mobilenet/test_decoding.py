import random
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mobilenet import decoding
from tests.keras_mobilenet.pictures import encode, picture, pillow

InvalidArgument = tf.errors.InvalidArgumentError
FORMATS = ("JPEG", "PNG", "BMP", "GIF")

decode = tf.function(decoding.decode, input_signature=[tf.TensorSpec((), tf.string)])


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize(
    ("form", "mode"),
    [(form, mode) for form in FORMATS for mode in ("RGB", "L")]
    + [("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "1"), ("BMP", "RGBA"), ("BMP", "P")],
)
def test_equals_pillow(form, mode, eager):
    contents = encode(picture(mode=mode), form)
    image = (decoding.decode if eager else decode)(contents)
    assert image.dtype == tf.uint8
    np.testing.assert_array_equal(image, pillow(contents))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30, "optimize": True}])
def test_kinds_of_jpeg(options):
    contents = encode(picture(), "JPEG", **options)
    np.testing.assert_array_equal(decode(contents), pillow(contents))


def test_interlaced_and_16_bit_png():
    values = np.arange(6 * 7, dtype=np.uint16).reshape(6, 7) * 1500
    contents = encode(Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(decode(contents)[..., 0], values >> 8)


def test_bmp_that_counts_rows_from_the_top():
    contents = bytearray(encode(picture(), "BMP"))
    contents[22:26] = struct.pack("<i", -37)
    np.testing.assert_array_equal(decode(bytes(contents)), np.asarray(picture())[::-1])


def gif_frame(contents):
    """Where the first frame's descriptor stands: behind the palette and the extensions, which hold no comma here."""
    return contents.index(b",", 13 + (3 << (contents[10] % 8 + 1)))


def test_first_frame_of_an_animation_placed_on_its_canvas():
    frames = [picture(mode="P"), picture().rotate(90).convert("P")]
    contents = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 700)
    np.testing.assert_array_equal(decode(contents), pillow(contents))
    single = bytearray(encode(picture(mode="P"), "GIF"))
    struct.pack_into("<HH", single, 6, 60, 50)  # the canvas
    frame = gif_frame(single)
    struct.pack_into("<HH", single, frame + 1, 4, 3)  # the frame's left and top
    image = decode(bytes(single)).numpy()
    assert image.shape == (50, 60, 3)
    np.testing.assert_array_equal(image[3:40, 4:57], np.asarray(picture(mode="P").convert("RGB")))
    assert not image[:3].any() and not image[:, :4].any() and not image[40:].any() and not image[:, 57:].any()


def test_gif_of_many_frames_decodes_only_its_first():
    """1,000 frames of 4,000 x 2,000 pixels: 24 GB where TensorFlow decodes them all."""
    blank = encode(Image.new("P", (4000, 2000)), "GIF")
    frame_at = gif_frame(blank)
    contents = blank[:-1] + blank[frame_at:-1] * 999 + b";"
    assert decode(contents).shape == (2000, 4000, 3)


def declared(form, width, height):
    contents = bytearray(encode(picture(), form))
    if form == "JPEG":
        struct.pack_into(">HH", contents, contents.index(b"\xff\xc0") + 5, height, width)
    elif form == "PNG":
        struct.pack_into(">II", contents, 16, width, height)
        struct.pack_into(">I", contents, 29, zlib.crc32(contents[12:29]))
    elif form == "BMP":
        struct.pack_into("<ii", contents, 18, width, height)
    else:
        struct.pack_into("<HH", contents, 6, width, height)
        struct.pack_into("<HH", contents, gif_frame(contents) + 5, width, height)
    return bytes(contents)


@pytest.mark.parametrize("form", FORMATS)
def test_too_many_declared_pixels(form):
    with pytest.raises(
        InvalidArgument, match=r"declares 20000 x 20000 pixels; up to 64,000,000 are read: send it smaller"
    ):
        decode(declared(form, 20_000, 20_000))


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (-1, 5), (0, 9), (2**31 - 1, -(2**31))])
def test_absurd_declared_sides(size):
    for form in ("PNG", "BMP"):
        with pytest.raises(InvalidArgument, match="declares"):
            decode(declared(form, *(side % 2**32 for side in size)) if form == "PNG" else declared(form, *size))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty"),
        (b"x", "The 1 bytes are no picture of a known kind: send JPEG, PNG, BMP or GIF"),
        (b"<html>not found</html>", "no picture of a known kind"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "no picture of a known kind"),
        (b"\xff\xd8\xff", "The JPEG is truncated"),
        (b"\x89PNG\r\n\x1a\n", "The PNG is truncated"),
        (b"BM", "The BMP is truncated"),
        (b"GIF89a", "The GIF is truncated"),
        (encode(picture(mode="1"), "BMP"), "BMP with 1 bits a pixel and compression 0 is not read here"),
    ],
)
@pytest.mark.parametrize("eager", [True, False])
def test_not_a_picture(contents, message, eager):
    with pytest.raises(InvalidArgument, match=message):
        (decoding.decode if eager else decode)(contents)


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_fails_or_loses_nothing(form):
    contents = encode(picture(), form)
    whole = pillow(contents)
    cuts = set(range(0, len(contents), max(1, len(contents) // 60))) | set(range(len(contents) - 16, len(contents)))
    for cut in sorted(cuts):
        try:
            image = decode(contents[:cut])
        except InvalidArgument as error:
            assert (
                "truncated" in error.message
                or "empty" in error.message
                or "no picture" in error.message
                or (cut >= len(contents) - 16)
            ), error.message
        else:
            assert cut >= len(contents) - 16
            np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_damage_never_raises_anything_else(form, mode):
    if (form, mode) == ("JPEG", "P"):
        mode = "L"
    contents = encode(picture(mode=mode), form)
    chance = random.Random(form + mode)
    for _ in range(80):
        damaged = bytearray(contents)
        for _ in range(chance.choice((1, 3, 20))):
            at = chance.randrange(len(damaged)) if chance.random() < 0.3 else chance.randrange(min(64, len(damaged)))
            damaged[at] = chance.choice((0, 255, chance.randrange(256)))
        try:
            image = decode(bytes(damaged))
        except InvalidArgument:
            continue
        assert image.shape[0] * image.shape[1] <= decoding.MAX_PIXELS and image.shape[2] == 3
