"""The page at `/` of the REST port: what the server sends, and the page itself in headless Chromium."""

import base64
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

import keras_mobilenet as km
from tests.serving.server import picture_models, tiny_models
from tests.serving.server.calls import config_text, get, post

HOSTILE = '<img src=x onerror="document.title=1">&amp;'
LABELS = [HOSTILE, "largo", "andante", "moderato", "allegro", "presto"]
SECONDS = 60  # a busy machine answers late


def fetch(url, method="GET"):
    """Status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def served(start, root):
    """MobileNetV2 with labels, of two versions; and models that find boxes, paint masks, or take no pictures."""
    model = km.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, weights=None, classes=len(LABELS))
    for version in (1, 2):
        km.export_saved_model(model, root / "tempo", labels=[f"{name} {version}" for name in LABELS])
    picture_models.detector(root / "boxes" / "1")
    picture_models.detector(root / "named" / "1", named=True)
    picture_models.segmenter(root / "mask" / "1", "mask", as_scores=True)
    picture_models.segmenter(root / "whole numbers" / "1", "arg_max")
    tiny_models.decoder(root / "mean" / "1")
    tiny_models.half_plus_two(root / "half" / "9007199254740993")
    tempo = "model_version_policy { all {} } version_labels { key: 'stable' value: 1 }"
    names = {"tempo": tempo, "boxes": "", "mask": "", "whole numbers": "", "mean": "", "half": "", "named": ""}
    file = root / "models.config"
    file.write_text(config_text(root, **names))
    return start(model_config_file=str(file), allow_version_labels_for_unavailable_models=True)


@pytest.fixture(scope="module")
def url(start, tmp_path_factory):
    """Of a server with one model, which takes no pictures."""
    root = tmp_path_factory.mktemp("half")
    tiny_models.half_plus_two(root / "9007199254740993")
    tiny_models.half_plus_two(root / "7")
    return start(model_name="half", model_base_path=str(root)).url


class TestWhatTheServerSends:
    def test_the_page_and_its_parts(self, url):
        wanted = {"/": "text/html", "/demo/page.css": "text/css", "/demo/page.js": "text/javascript"}
        for path, kind in {**wanted, "/demo/icon.svg": "image/svg+xml"}.items():
            status, headers, body = fetch(url + path)
            assert (status, headers.get_content_type()) == (200, kind)
            assert len(body) > 100
            assert fetch(url + path, "HEAD")[2] == b""

    def test_what_the_browser_may_do(self, url):
        for path in ("/", "/demo/page.js", "/demo/models"):
            _, headers, _ = fetch(url + path)
            policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Access-Control-Allow-Origin"] is None

    def test_no_inline_code_and_no_outside_address(self, url):
        page = fetch(url + "/")[2].decode()
        assert "<style" not in page
        attributes = []
        parser = HTMLParser()
        parser.handle_starttag = lambda tag, pairs: attributes.extend((tag, *pair) for pair in pairs)
        parser.feed(page)
        assert not [entry for entry in attributes if entry[1] == "style" or entry[1].startswith("on")]
        # Relative, so that the page also works below a proxy's prefix.
        links = {value for _, name, value in attributes if name in ("src", "href")}
        assert links == {"demo/page.css", "demo/page.js", "demo/icon.svg"}
        assert re.findall(r"<script[^>]*>([^<]*)", page) == [""]
        for path in ("/demo/page.css", "/demo/page.js"):
            assert not re.search(rb"""["'`(:]//""", fetch(url + path)[2])

    def test_the_list_of_models(self, url):
        models = json.loads(fetch(url + "/demo/models")[2])
        assert models == {"models": [{"name": "half", "versions": ["9007199254740993"], "labels": {}}]}

    def test_the_list_follows_reloads(self, start, tmp_path):
        tiny_models.half_plus_two(tmp_path / "b" / "1")
        tiny_models.half_plus_two(tmp_path / "a" / "3")
        tiny_models.half_plus_two(tmp_path / "a" / "4")
        everything = "model_version_policy { all {} } version_labels { key: 'canary' value: 4 }"
        file = tmp_path / "models.config"
        file.write_text(config_text(tmp_path, b="", a=everything))
        clients = start(
            model_config_file=str(file),
            model_config_file_poll_wait_seconds=0.05,
            allow_version_labels_for_unavailable_models=True,
        )
        a = {"name": "a", "versions": ["4", "3"], "labels": {"canary": "4"}}
        b = {"name": "b", "versions": ["1"], "labels": {}}
        assert get(clients.url + "/demo/models") == (200, {"models": [b, a]})
        file.write_text(config_text(tmp_path, a=everything))
        until(lambda: get(clients.url + "/demo/models") == (200, {"models": [a]}))

    def test_the_api_is_as_it_was(self, url):
        status, headers, body = fetch(url + "/v1/models/half")
        assert status == 200
        assert "Content-Security-Policy" not in headers
        assert json.loads(body)["model_version_status"][0]["version"] == "9007199254740993"
        assert re.fullmatch(r"total;dur=\d+\.\d", headers["Server-Timing"])
        for path, method in (("/", "POST"), ("/demo/models", "DELETE"), ("/demo/", "GET"), ("/index.html", "GET")):
            assert fetch(url + path, method)[0] == 404
        for path in ("/demo/../demo_page.py", "/demo/%2e%2e/demo_page.py", "/demo//etc/passwd"):
            assert fetch(url + path)[0] == 404

    def test_nodemo_page(self, start, tmp_path):
        tiny_models.half_plus_two(tmp_path / "1")
        url = start(model_name="half", model_base_path=str(tmp_path), demo_page=False).url
        for path in ("/", "/demo/page.js", "/demo/models"):
            assert fetch(url + path)[0] == 404
        _, headers, _ = fetch(url + "/v1/models/half")
        assert "Server-Timing" not in headers


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not (met := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return met


class Page:
    """The page in a browser."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url):
        self.driver.get(url + "/")
        until(lambda: not self.find("model").get_property("disabled") or self.error())

    def find(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.find(name).get_property("textContent").strip()

    def select(self, name, value):
        """Chooses an option as a reader does; answers are awaited."""
        from selenium.webdriver.support.select import Select

        self.started()
        Select(self.find(name)).select_by_value(value)

    def options(self, name):
        return [option.text for option in self.find(name).find_elements("tag name", "option")]

    def choose(self, path):
        self.started()
        self.find("file").send_keys(str(path))

    def started(self):
        """Marks what is on the page now, so that `rows` and `complaint` wait for what comes next."""
        self.driver.execute_script("""
            document.getElementById("results").replaceChildren();
            document.getElementById("error").hidden = true;""")

    def rows(self):
        """The names and figures of the answer, once it is there."""
        until(lambda: self.find("results").find_elements("tag name", "li") or self.error())
        assert not self.error()
        return [
            tuple(row.find_element("class name", part).text for part in ("name", "share"))
            for row in self.find("results").find_elements("tag name", "li")
        ]

    def error(self):
        return self.find("error").is_displayed() and self.text("error-text")

    def complaint(self):
        return until(self.error)

    def pixel(self, x, y):
        """Red, green and blue at shares of the canvas's width and height."""
        script = """
            const [canvas, [x, y]] = [document.getElementById("canvas"), arguments];
            const pixel = new OffscreenCanvas(1, 1).getContext("2d");
            pixel.drawImage(canvas, -Math.floor(x * canvas.width), -Math.floor(y * canvas.height));
            return [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3);"""
        return self.driver.execute_script(script, x, y)

    def transfer(self, kind, path):
        """Drops or pastes a file."""
        self.started()
        script = """
            const [kind, name, content] = arguments;
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            data.items.add(new File([bytes], name, { type: "image/png" }));
            const details = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
            const event = new (kind === "paste" ? ClipboardEvent : DragEvent)(kind, details);
            document.getElementById("stage").dispatchEvent(event);"""
        self.driver.execute_script(script, kind, path.name, base64.b64encode(path.read_bytes()).decode())

    def media(self, **features):
        entries = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": entries})


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    switches = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync disable-dev-shm-usage window-size=1200,900"
    )
    for switch in switches.split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=programs[1])
    with webdriver.Chrome(options, service) as driver:
        yield driver


@pytest.fixture
def page(driver, served):
    page = Page(driver)
    driver.get_log("browser"), driver.get_log("performance")
    page.open(served.url)
    yield page
    # Whatever a test did: nothing violated the policy, nothing failed, and no other address was asked.
    complaints = [entry["message"] for entry in driver.get_log("browser")]
    assert [text for text in complaints if "the server responded with a status of 4" not in text] == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(served.url).netloc}


@pytest.fixture(scope="module")
def colours(root):
    """A red and a green rectangle on grey: boxes of x 1/8 to 1/2, y 1/6 to 1/2, and x 5/8 to 7/8, y 1/2 to 5/6."""
    image = Image.new("RGB", (320, 240), (90, 90, 90))
    image.paste((255, 0, 0), (40, 40, 160, 120))
    image.paste((0, 255, 0), (200, 120, 280, 200))
    image.save(root / "colours.png")
    return root / "colours.png"


@pytest.mark.slow
class TestInChromium:
    def test_a_picture_is_classified_as_a_client_has_it(self, page, served, colours):
        page.choose(colours)
        rows = page.rows()
        example = {"image/encoded": {"b64": base64.b64encode(colours.read_bytes()).decode()}}
        url = served.url + "/v1/models/tempo/versions/2:classify"
        answer = post(url, {"signature_name": "classify", "examples": [example]})[1]["results"][0]
        assert rows == [(name, f"{100 * score:.1f} %") for name, score in answer]
        assert len(rows) == 5
        assert (page.text("model-name"), page.text("model-version")) == ("tempo", "2")
        assert re.fullmatch(r"[\d.]+ ms", page.text("round-trip"))
        times = [float(page.text(name).removesuffix(" ms")) for name in ("server-time", "round-trip")]
        assert 0 < times[0] <= times[1] + 1
        assert page.text("sent") == "colours.png, 320 × 240 pixels"
        widths = page.driver.execute_script(
            "return [...document.querySelectorAll('.bar > span')].map((bar) => parseFloat(bar.style.width))"
        )
        assert widths == pytest.approx([100 * score for _, score in answer], abs=0.01)

    def test_labels_are_text(self, page, colours):
        page.choose(colours)
        names = [name for name, _ in page.rows()]
        shown = page.driver.execute_script("return document.querySelectorAll('#results img').length")
        assert (shown, page.driver.title) == (0, "Try a served model")
        everything = [f"{label} 2" for label in LABELS]
        assert set(names) < set(everything)

    def test_versions_and_models_are_chosen(self, page, colours):
        assert page.options("model") == ["tempo", "boxes", "mask", "whole numbers", "mean", "half", "named"]
        assert page.options("version") == ["2 – newest", "1 – stable"]
        page.choose(colours)
        assert all(name.endswith(" 2") for name, _ in page.rows())
        page.select("version", "1")
        assert all(name.endswith(" 1") for name, _ in page.rows())
        assert page.text("model-version") == "1"
        page.select("model", "boxes")
        page.rows()
        assert page.options("version") == ["1"]

    @pytest.mark.parametrize("kind", ["drop", "paste"])
    def test_dropped_and_pasted(self, page, colours, kind):
        page.transfer(kind, colours)
        assert len(page.rows()) == 5

    def test_boxes(self, page, colours):
        page.select("model", "boxes")
        page.choose(colours)
        assert sorted(page.rows()) == [("class 1", "100.0 %"), ("class 2", "100.0 %")]
        assert page.text("message") == "2 of 2 boxes have a score of at least 50 %."
        inside, edges = page.pixel(0.3, 0.3), [page.pixel(1 / 8, 0.3), page.pixel(0.3, 1 / 2), page.pixel(1 / 2, 0.3)]
        assert inside == [255, 0, 0]
        assert edges[0] == edges[1] == edges[2] not in (inside, [90, 90, 90])
        assert page.pixel(0.05, 0.9) == [90, 90, 90]

    def test_boxes_have_their_labels_where_the_model_knows_them(self, page, colours):
        page.select("model", "named")
        page.choose(colours)
        assert sorted(page.rows()) == [("green", "100.0 %"), ("red", "100.0 %")]

    def test_boxes_of_a_low_score_are_left_out(self, page, root):
        image = Image.new("RGB", (100, 100), (90, 90, 90))
        image.paste((0, 0, 255), (10, 10, 90, 20))
        image.paste((0, 0, 255), (10, 10, 20, 90))  # an L: 1500 of its box's 6400 pixels
        image.save(root / "l.png")
        page.select("model", "boxes")
        page.choose(root / "l.png")
        until(lambda: page.text("message") == "0 of 1 boxes have a score of at least 50 %.")
        assert page.find("overlay-tools").is_displayed()
        threshold = page.find("threshold")
        for _ in range(6):
            threshold.send_keys("\ue012")  # arrow left
        assert page.text("threshold-value") == "20 %"
        assert page.rows() == [("class 3", "23.4 %")]

    @pytest.mark.parametrize("model", ["mask", "whole numbers"])
    def test_mask(self, page, colours, model):
        page.select("model", model)
        page.choose(colours)
        rows = dict(page.rows())
        assert list(rows) == ["class 0", "class 1", "class 2"]
        shares = [float(text.removesuffix(" %")) for text in rows.values()]
        assert shares == pytest.approx([100 - 12.5 - 8.3, 12.5, 8.3], abs=1)
        assert page.pixel(0.05, 0.9) == [90, 90, 90]
        over = page.pixel(0.3, 0.3)
        assert over not in ([255, 0, 0], page.pixel(0.75, 0.7))
        page.driver.execute_script("""
            const slider = document.getElementById("opacity");
            slider.value = 0;
            slider.dispatchEvent(new Event("input"));""")
        assert page.pixel(0.3, 0.3) == [255, 0, 0]

    def test_a_photo_that_lies_on_its_side_is_sent_upright(self, page, colours, root):
        upright = Image.open(colours)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned to the right
        upright.transpose(Image.Transpose.ROTATE_90).save(root / "side.jpg", quality=95, exif=exif)
        page.select("model", "mask")
        page.choose(root / "side.jpg")
        rows = dict(page.rows())
        assert page.text("sent") == "side.jpg, 320 × 240 pixels, sent upright"
        assert float(rows["class 1"].removesuffix(" %")) == pytest.approx(12.5, abs=1.5)
        mixed = page.pixel(0.3, 0.3)
        assert page.pixel(0.75, 0.7) != mixed
        assert page.pixel(0.3, 0.75) == pytest.approx([90] * 3, abs=3)

    def test_what_the_server_does_not_read_is_sent_as_jpeg(self, page, colours, root):
        Image.open(colours).save(root / "colours.webp", lossless=True)
        page.select("model", "boxes")
        page.choose(root / "colours.webp")
        assert sorted(name for name, _ in page.rows()) == ["class 1", "class 2"]
        assert page.text("sent").endswith("sent as JPEG")

    def test_a_large_picture_is_made_smaller(self, page, colours, root):
        Image.open(colours).resize((4800, 3600), Image.Resampling.NEAREST).save(root / "large.png")
        page.select("model", "boxes")
        page.choose(root / "large.png")
        assert sorted(name for name, _ in page.rows()) == ["class 1", "class 2"]
        assert page.text("sent") == "large.png, 4800 × 3600 pixels, made smaller"

    def test_a_bad_picture(self, page, root, colours):
        (root / "notes.txt").write_text("no picture")
        page.choose(root / "notes.txt")
        assert page.complaint().startswith("notes.txt is not a picture that this browser can read.")
        with (root / "huge.png").open("wb") as file:
            file.truncate(65 * 2**20)
        page.choose(root / "huge.png")
        assert page.complaint() == "huge.png has 65.0 MiB; this page takes up to 64.0 MiB."
        page.choose(colours)
        assert len(page.rows()) == 5

    def test_a_picture_that_the_server_refuses(self, page, root, colours):
        content = bytearray(colours.read_bytes())
        at = content.index(b"IEND") - 4
        # A chunk that must be understood and is not: browsers go by the pixels before it, libpng refuses.
        content[at:at] = (4).to_bytes(4, "big") + b"NOPE" + b"abcd" + b"\0\0\0\0"
        (root / "odd.png").write_bytes(content)
        page.choose(root / "odd.png")
        complaint = page.complaint()
        assert complaint.startswith("The server answered with an error (400): ")
        assert "{{" not in complaint
        assert not page.find("facts").is_displayed()

    def test_a_model_that_takes_no_pictures(self, page, colours):
        page.choose(colours)
        page.rows()
        page.select("model", "half")
        complaint = page.complaint()
        assert "none of its signatures (both, serving_default) has a single input" in complaint
        assert "image_bytes" in complaint
        assert not page.find("again").is_displayed()

    def test_a_model_with_another_answer(self, page, colours):
        page.select("model", "mean")
        page.choose(colours)
        assert "do not tell which are the classes' scores" in page.complaint()

    def test_keyboard_and_names(self, page, colours):
        from selenium.webdriver.common.keys import Keys

        page.choose(colours)
        page.rows()
        page.driver.execute_script("document.activeElement.blur()")
        reached = []
        for _ in range(3):
            page.driver.switch_to.active_element.send_keys(Keys.TAB)
            reached.append(page.driver.switch_to.active_element.accessible_name)
        assert reached == ["Model", "Version", "Choose another picture"]
        assert page.find("canvas").accessible_name.startswith("colours.png, 320 × 240 pixels. ")
        assert page.find("message").aria_role == "status"
        assert page.find("error").get_attribute("role") == "alert"

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast(self, page, colours, scheme):
        page.media(prefers_color_scheme=scheme)
        page.choose(colours)
        page.rows()
        script = """
            const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255)
              .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
              .reduce((sum, v, index) => sum + v * [0.2126, 0.7152, 0.0722][index], 0);
            const behind = (node) => {
              const colour = getComputedStyle(node).backgroundColor;
              return colour.endsWith(", 0)") ? behind(node.parentElement) : colour;
            };
            document.getElementById("error").hidden = document.getElementById("again").hidden = false;
            document.getElementById("error-text").textContent = "Trouble";
            const nodes = [...document.querySelectorAll("body *")].filter((node) =>
              node.offsetParent && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
            return nodes.map((node) => {
              const pair = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((a, b) => b - a);
              return [node.id || node.className || node.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)];
            });"""
        ratios = page.driver.execute_script(script)
        page.media()
        assert len(ratios) > 15
        assert [entry for entry in ratios if entry[1] < 4.5] == []

    def test_phone(self, page, colours):
        metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            page.choose(colours)
            page.rows()
            width, bottom, top = page.driver.execute_script("""
                const edge = (id, side) => document.getElementById(id).getBoundingClientRect()[side];
                return [document.documentElement.scrollWidth, edge("stage", "bottom"), edge("results", "top")];""")
        finally:
            page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert width <= 360
        assert bottom < top  # one column

    def test_the_server_goes_and_comes_back(self, driver, start, root, colours):
        clients = start(model_name="boxes", model_base_path=str(root / "boxes"))
        page = Page(driver)
        page.open(clients.url)
        page.choose(colours)
        assert len(page.rows()) == 2
        port = clients.server.rest_api_port
        clients.server.stop()
        page.choose(colours)
        assert page.complaint() == (
            f"The server at localhost:{port} cannot be reached. It may have stopped, or the network is down."
        )
        start(model_name="boxes", model_base_path=str(root / "boxes"), rest_api_port=port)
        page.started()
        page.driver.execute_script("document.getElementById('error').hidden = false")
        page.find("again").click()
        assert len(page.rows()) == 2

    def test_a_version_that_made_room_for_a_newer_one(self, driver, start, root, tmp_path, colours):
        shutil.copytree(root / "boxes" / "1", tmp_path / "boxes" / "1")
        clients = start(model_name="boxes", model_base_path=str(tmp_path / "boxes"))
        page = Page(driver)
        page.open(clients.url)
        shutil.copytree(root / "boxes" / "1", tmp_path / "2")
        Path(tmp_path / "2").rename(tmp_path / "boxes" / "2")
        until(lambda: get(clients.url + "/v1/models/boxes/versions/1")[1]["model_version_status"][0]["state"] == "END")
        page.choose(colours)
        assert len(page.rows()) == 2
        assert page.text("model-version") == "2"
