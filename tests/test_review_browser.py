"""The review page in a browser: keys, reload, export, escaping, accessibility.

Needs selenium, Chromium and its driver, found by name; the check of accessibility also the script
of axe-core, whose path is in the variable AXE_CORE. Nothing is installed here.
"""

import csv
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sknoisy.review import Corrections, write_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE_CORE = os.environ.get("AXE_CORE", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not here"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:selenium.*"),
    pytest.mark.filterwarnings("ignore:The columns of pred_probs"),  # each suggestion is another
]

HOSTILE = [
    "<b>bold</b> & <img src=x onerror='document.title=\"hurt\"'>",
    "</script><script>document.title = 'hurt'</script>",
    "<!-- <script> \u2028 \u2029 {{ 7 * 7 }} ${document.title = 'hurt'}",
    '"quoted", with commas,\nand lines\r\n',
    "=1+1",
    "snowman \u2603, \U0001f600, \x00, \x0b",
]


@pytest.fixture(scope="module")
def running_browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    folder = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver, folder
    driver.quit()


@pytest.fixture
def browser(running_browser):
    """The browser, and the folder of its downloads; what pages stored is gone after a test."""
    yield running_browser
    running_browser[0].execute_script("localStorage.clear()")


class Page:
    """A page in the browser: its elements by id, and what a person does to it."""

    def __init__(self, browser, path):
        self.driver, self.downloads = browser
        self.path = Path(path).resolve()
        self.open()

    def open(self):
        self.driver.get(self.path.as_uri())
        return self

    def text(self, name):
        return self.driver.find_element(By.ID, name).text

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def press(self, *keys):
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()
        return self

    def choose(self, name, value):
        Select(self.find(name)).select_by_value(value)
        self.driver.execute_script("document.activeElement.blur()")

    def export(self, kind):
        path = self.downloads / f"corrections.{kind}"
        path.unlink(missing_ok=True)
        self.find(f"export-{kind}").click()
        for _ in range(100):
            if path.exists() and path.stat().st_size:  # it is there before its content
                return path
            time.sleep(0.1)
        raise AssertionError(f"{path} was not written")

    def decisions(self):
        """Return row -> label of the export."""
        with open(self.export("csv"), newline="", encoding="utf-8-sig") as file:
            return {int(line["row"]): line["label"] for line in csv.DictReader(file)}


def write(tmp_path, n=12, names=("ant", "bee", "cat"), seed=0, **params):
    """Write a page of n rows whose label and suggestion differ: texts, the worst first."""
    rng, names = np.random.default_rng(seed), np.array(names)
    y = rng.integers(len(names), size=n)
    y[: len(names)] = np.arange(len(names))[:n]
    proba = np.full((n, len(names)), 0.1 / len(names))
    proba[np.arange(n), (y + 1) % len(names)] += 0.9 - 0.01 * np.arange(n) / n
    proba /= proba.sum(axis=1, keepdims=True)
    params = {"X": [f"text {k}" for k in range(n)], **params}
    path = tmp_path / "review.html"
    table = write_page(y=names[y], pred_probs=proba, classes=names, path=path, **params)
    return path, table, names[y]


def test_keys_accept_keep_choose_move_and_undo(tmp_path, browser):
    path, table, y = write(tmp_path)
    page = Page(browser, path)
    first = table.iloc[0]
    assert page.text("text") == f"text {first['row']}"
    page.press(Keys.ENTER)
    assert page.text("place") == "Label 2 of 12"
    page.press(" ", "3", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.text("place") == "Label 4 of 12"
    rows, suggested = table["row"].tolist(), table["suggested"].tolist()
    expected = {rows[0]: suggested[0], rows[1]: y[rows[1]], rows[2]: "cat"}
    assert page.decisions() == expected
    page.press("u")
    assert page.text("place") == "Label 3 of 12"
    assert page.decisions() == {row: expected[row] for row in rows[:2]}
    assert page.text("count").startswith("2 of 12 reviewed, 1 changed")


def test_a_decided_row_is_decided_anew(tmp_path, browser):
    path, table, y = write(tmp_path)
    page = Page(browser, path).press(Keys.ENTER, Keys.ARROW_LEFT, " ")
    row = table["row"].iloc[0]
    assert page.decisions() == {row: y[row]}
    assert page.press("u").decisions() == {row: table["suggested"].iloc[0]}


def test_letters_choose_beyond_nine_and_u_stays_undo(tmp_path, browser):
    names = [f"class {k:02d}" for k in range(40)]
    path, table, _ = write(tmp_path, 40, names)
    keys = [
        b.text for b in Page(browser, path).driver.find_elements(By.CSS_SELECTOR, "#classes kbd")
    ]
    assert keys == [*"1234567890ABCDEFGHIJKLMNOPQRSTVWXYZ"]
    page = Page(browser, path).press("b", "v", "u")
    assert page.decisions() == {table["row"].iloc[0]: "class 11"}


def test_classes_that_are_characters_are_their_own_keys(tmp_path, browser):
    path, table, _ = write(tmp_path, names=["0", "7", "x"])
    page = Page(browser, path).press("7", "X", "1")
    assert page.decisions() == dict(zip(table["row"][:2], ["7", "x"], strict=True))


def test_no_key_is_the_name_of_another_class(tmp_path, browser):
    names = [str(k) for k in range(12)]
    path, table, _ = write(tmp_path, names=names)
    page = Page(browser, path).press(*"109ab")
    assert page.decisions() == dict(zip(table["row"][:5], ["1", "0", "9", "10", "11"], strict=True))
    path, table, _ = write(tmp_path, names=["A", "a", "b"])
    page = Page(browser, path).press(*"ab2")
    assert page.decisions() == dict(zip(table["row"][:2], ["b", "a"], strict=True))


def test_a_class_among_many_is_found_by_its_name(tmp_path, browser):
    names = [f"class {k:02d}" for k in range(100)]
    path, table, _ = write(tmp_path, 100, names)
    page = Page(browser, path).press("/", "9", "7", Keys.ENTER)
    assert page.press("/", "u", Keys.ESCAPE).decisions() == {table["row"].iloc[0]: "class 97"}


def test_a_key_that_is_held_decides_once(tmp_path, browser):
    path, _, _ = write(tmp_path)
    page = Page(browser, path)
    held = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', repeat: %s}))"
    page.driver.execute_script("document.body.focus()")
    for repeat in ("false", "true", "true"):
        script = held.replace("document.dispatch", "document.body.dispatch")
        script = script.replace("{key", "{bubbles: true, key")
        page.driver.execute_script(script % repeat)
    assert page.text("count").startswith("1 of 12")


def test_work_survives_a_reload_also_undo(tmp_path, browser):
    path, _, _ = write(tmp_path)
    page = Page(browser, path).press(Keys.ENTER, Keys.ENTER, Keys.ARROW_RIGHT)
    before = page.decisions()
    assert page.open().decisions() == before
    assert len(page.press("u").open().decisions()) == 1
    assert page.text("place") == "Label 2 of 12"


def test_another_page_has_its_own_work(tmp_path, browser):
    Page(browser, write(tmp_path, seed=1)[0]).press(Keys.ENTER)
    page = Page(browser, write(tmp_path, seed=2)[0])
    assert page.text("count").startswith("0 of 12")
    assert Page(browser, write(tmp_path, seed=1)[0]).text("count").startswith("1 of 12")


def test_without_storage_the_page_works_and_says_so(tmp_path, browser):
    path, _, _ = write(tmp_path, seed=3)
    driver, _ = browser
    script = "Storage.prototype.setItem = () => { throw new Error('full') }"
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    page = Page(browser, path).press(Keys.ENTER)
    driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert "not stored by this browser" in page.text("count")
    assert len(page.decisions()) == 1


def test_filters_leave_a_class_and_what_is_to_do(tmp_path, browser):
    path, table, _ = write(tmp_path, seed=4)
    page = Page(browser, path)
    page.choose("class-filter", "1")
    n_bees = (table["given"] == "bee").sum()
    assert page.text("place") == f"Label 1 of {n_bees}"
    page.press(*[Keys.ENTER] * n_bees)
    assert "All labels of this selection" in page.text("status")
    assert set(page.decisions()) == set(table["row"][table["given"] == "bee"])
    page.choose("class-filter", "all")
    page.choose("decision-filter", "open")
    assert page.text("place") == f"Label 1 of {12 - n_bees}"
    page.press(" ")
    page.choose("decision-filter", "kept")
    assert page.text("place") == "Label 1 of 1"


def test_both_exports_read_back_alike(tmp_path, browser):
    path, table, y = write(tmp_path, rows="mixed", n_rows=8, random_state=0)
    page = Page(browser, path).press(*[Keys.ENTER, " ", "2"] * 3)
    found = [Corrections.read(page.export(kind)) for kind in ("csv", "json")]
    for name in vars(found[0]):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))
    np.testing.assert_array_equal(found[0].rows, table["row"])
    assert found[0].origins == table["origin"].tolist()
    assert found[0].stratum_sizes == table["stratum_size"].tolist()
    changed = found[0].apply(y)
    assert (changed[table["row"][0]], changed[table["row"][1]]) == (
        table["suggested"][0], y[table["row"][1]],
    )  # fmt: skip


def test_hostile_texts_names_and_labels_are_shown_as_they_are(tmp_path, browser):
    n = len(HOSTILE)
    frame = pd.DataFrame({"<i>body</i>": HOSTILE, "{{ a }}": HOSTILE}, index=HOSTILE)
    path, table, y = write(tmp_path, n, HOSTILE, X=frame, text="<i>body</i>")
    page = Page(browser, path)
    for position in range(n):
        row = table["row"][position]
        assert page.find("text").get_property("textContent") == HOSTILE[row]
        cell = page.driver.find_element(By.CSS_SELECTOR, "#cells td")
        assert cell.get_property("textContent") == HOSTILE[row]
        assert page.driver.find_element(By.CSS_SELECTOR, "#cells th").text == "{{ a }}"
        page.press(Keys.ENTER)
    assert page.driver.title == f"Review of {n} labels"
    assert not page.driver.find_elements(By.CSS_SELECTOR, "main b > *, #text *, #classes b")
    corrections = Corrections.read(page.export("csv"))
    assert sorted(corrections.index) == sorted(HOSTILE)
    expected = dict(zip(table["row"], table["suggested"], strict=True))
    found = corrections.apply(pd.Series(y, index=HOSTILE))
    assert found.tolist() == [expected[k] for k in range(n)]


def test_a_script_that_slips_in_does_not_run(tmp_path, browser):
    path, _, _ = write(tmp_path)
    html = path.read_text(encoding="utf-8")
    path.write_text(
        html.replace("<noscript>", "<script>document.title = 'hurt'</script><noscript>")
    )
    assert Page(browser, path).driver.title == "Review of 12 labels"


def test_the_page_asks_the_network_for_nothing(tmp_path, browser):
    rng = np.random.default_rng(0)
    path, _, _ = write(tmp_path, X=rng.random((12, 8, 8, 3)))
    driver, _ = browser
    for kind in ("performance", "browser"):
        driver.get_log(kind)
    Page(browser, path).press(Keys.ENTER, "2", "u")
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert [url for url in urls if url.startswith("file:")] == [path.resolve().as_uri()]
    assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_long_texts_are_folded(tmp_path, browser):
    path, _, _ = write(tmp_path, 3, X=["short", "word " * 2000, "short"])
    page = Page(browser, path)
    while page.find("text").get_property("textContent") == "short":
        assert not page.find("unfold").is_displayed()
        page.press(Keys.ARROW_RIGHT)
    height = page.find("text").size["height"]
    assert height < 400
    page.find("unfold").click()
    assert page.find("text").size["height"] > 3 * height


def test_a_thousand_rows_are_reviewed_like_a_few(tmp_path, browser):
    images = np.random.default_rng(0).random((1000, 28, 28))
    names = [f"class {k:02d}" for k in range(100)]
    path, table, _ = write(tmp_path, 1000, names, X=images, n_rows=1000)
    page = Page(browser, path).press(Keys.ENTER, Keys.ENTER)
    assert page.text("place") == "Label 3 of 1000"
    assert page.find("image").get_property("naturalWidth") == 28
    assert page.decisions() == dict(zip(table["row"][:2], table["suggested"][:2], strict=True))


@pytest.mark.skipif(not Path(AXE_CORE).is_file(), reason="AXE_CORE names no script of axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["texts", "images", "table"])
def test_accessibility_has_no_serious_finding(tmp_path, browser, kind, width, scheme):
    rng = np.random.default_rng(0)
    X = {
        "texts": ["word " * 2000] * 30,
        "images": rng.random((30, 8, 8)),
        "table": pd.DataFrame(rng.random((30, 5))).add_prefix("column "),
    }[kind]
    path, _, _ = write(tmp_path, 30, [f"class {k:02d}" for k in range(30)], X=X)
    driver, _ = browser
    emulate = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", emulate)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page = Page(browser, path).press(Keys.ENTER)
    driver.execute_script(Path(AXE_CORE).read_text(encoding="utf-8"))
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    wide = driver.execute_script("return document.documentElement.scrollWidth > innerWidth")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [(v["id"], v["impact"]) for v in found["violations"]] == []
    assert len(found["passes"]) > 20
    assert not wide
    assert page.text("place") == "Label 2 of 30"
