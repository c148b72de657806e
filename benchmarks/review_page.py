"""Review pages of 1,000 rows: seconds to write one, its size, and milliseconds to its first paint.

Pictures of 28 pixels in 10 classes, photographs of 640 x 480 pixels in 10 classes, texts of 2,000
words in 100 classes, and a table of 30 columns. The first paint, the end of loading and a decision
(key to the next row drawn) are the browser's own times, median of 5 loads in headless Chromium.

    python benchmarks/review_page.py [--picture review_page.png]

With `--picture`, draws a page of handwritten digits instead.
"""

import argparse
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import machine
import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sklearn.datasets import load_digits

from sknoisy import ALRClassifier
from sknoisy.noise import pair_noise
from sknoisy.review import write_page

ROWS, LOADS = 1000, 5
PAINT = """
const done = arguments[arguments.length - 1];
new PerformanceObserver((list) => {
  for (const entry of list.getEntriesByName("first-contentful-paint")) done(entry.startTime);
}).observe({ type: "paint", buffered: true });
"""
LOADED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
DECISION = """
const done = arguments[arguments.length - 1], start = performance.now();
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""


def photographs(rng):
    """Return smooth images of 640 x 480 pixels, as photographs are, that need little memory."""
    coarse = rng.integers(256, size=(ROWS, 12, 16, 3), dtype=np.uint8)
    return [np.kron(image, np.ones((40, 40, 1), dtype=np.uint8)) for image in coarse]


def contents():
    """Yield a name, the rows and the number of classes."""
    rng = np.random.default_rng(0)
    yield "pictures, 28 x 28", rng.integers(256, size=(ROWS, 28, 28), dtype=np.uint8), 10
    yield "photographs, 640 x 480", photographs(rng), 10
    words = np.array([f"word{k}" for k in range(5000)])
    yield "texts, 2,000 words", [" ".join(rng.choice(words, 2000)) for _ in range(ROWS)], 100
    yield "table, 30 columns", rng.random((ROWS, 30)), 10


def measure(driver, path):
    """Return the medians of the first paint, the end of loading and a decision."""
    found = []
    for _ in range(LOADS):
        driver.get(path.as_uri())
        paint, loaded = driver.execute_async_script(PAINT), driver.execute_script(LOADED)
        found.append([paint, loaded, driver.execute_async_script(DECISION)])
    return [statistics.median(times) for times in zip(*found, strict=True)]


def start_browser():
    """Return headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def draw(driver, page, picture):
    """Draw a page of digits, 3 of 100 labels decided."""
    X, y = load_digits(return_X_y=True)
    clf = ALRClassifier(random_state=0).fit(X, pair_noise(y, 0.1, random_state=0))
    write_page(clf, X.reshape(-1, 8, 8), page, n_rows=100)
    size = {"width": 1280, "height": 480, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page.as_uri())
    for _ in range(3):
        driver.execute_async_script(DECISION)
    driver.execute_script("document.documentElement.style.scrollbarWidth = 'none'")
    driver.save_screenshot(picture)


def print_times(driver, page):
    """Print a line for each kind of rows."""
    print(machine.describe(), "\n")
    print("| 1,000 rows | written, s | MB | first paint, ms | loaded, ms | decision, ms |")
    print("|---|---|---|---|---|---|")
    for name, X, n_classes in contents():
        rng = np.random.default_rng(0)
        proba = rng.dirichlet(np.ones(n_classes), ROWS)
        y = rng.permutation(np.arange(ROWS) % n_classes)
        start = perf_counter()
        write_page(y=y, pred_probs=proba, X=X, path=page, n_rows=ROWS)
        seconds = perf_counter() - start
        times = " | ".join(f"{time:.0f}" for time in measure(driver, page))
        print(f"| {name} | {seconds:.1f} | {page.stat().st_size / 1e6:.1f} | {times} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", help="draw a page into this file")
    picture = parser.parse_args().picture
    driver = start_browser()
    with TemporaryDirectory() as folder:
        page = Path(folder) / "review.html"
        if picture:
            draw(driver, page, picture)
        else:
            print_times(driver, page)
    driver.quit()


if __name__ == "__main__":
    main()
