"""Looks at the page Try it in Chromium: how many images a second follow a finger, and the image of it in docs/.

python docs/try_look.py [folder of the site]"""

import contextlib
import functools
import http.server
import shutil
import threading
from pathlib import Path

import tyro
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 5
# what a finger does, up and down once in 1.5 s, so that the slider has another value in every frame of the screen (its
# step is 0.01); how often was the large image painted?
DRAG = """async seconds => {
    const slider = document.getElementById("walk"), begin = performance.now(), before = stages;
    let frames = 0;
    for (let now = begin; now < begin + 1000 * seconds; now = await new Promise(requestAnimationFrame)) {
        slider.value = Math.abs(((now - begin) / 750) % 2 - 1);
        slider.dispatchEvent(new Event("input"));
        frames++;
    }
    const taken = (performance.now() - begin) / 1000;
    return [(stages - before) / taken, frames / taken] }"""


@contextlib.contextmanager
def served(folder):
    """The address of a folder, shown by Python's own web server as long as the context lasts."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def settled(page, address):
    """Opens the page and waits until all of its 85 images are there."""
    page.goto(address)
    page.wait_for_function("targets.length && targets.every(target => target.shown)", timeout=300_000)


def main(site: tyro.conf.Positional[Path] = ROOT / "build" / "site", image: Path = ROOT / "docs" / "try.jpg"):
    """Prints images a second and writes `image`, 1280 pixels wide."""
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 820})
        settled(page, f"{address}try/")
        page.wait_for_timeout(1000)  # the samples fade in
        images, frames = page.evaluate(DRAG, SECONDS)
        told = f"{images:.0f} images/s follow the slider, in {frames:.0f} frames/s of the screen ({SECONDS} s)"
        print(f"{told}; the page says {page.inner_text('#speed')}")
        settled(page, f"{address}try/?#class=ship&seed=3")
        page.wait_for_timeout(1000)  # the samples fade in
        page.screenshot(path=image, type="jpeg", quality=60)
        browser.close()


if __name__ == "__main__":
    tyro.cli(main)
