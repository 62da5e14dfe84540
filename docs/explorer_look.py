"""Takes the image of the explorer in docs/: the page of `make app` in Chromium, without the times, which are those of a
moment.

python docs/explorer_look.py"""

import contextlib
import io
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import tyro
from PIL import Image
from playwright.sync_api import sync_playwright

from gsoc_kd.core.figures import save_png
from gsoc_kd.core.files import InputError

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300  # seconds
WITHOUT_TIMES = """() => {
    for (const label of document.querySelectorAll('.widget-label'))
        label.textContent = label.textContent.replace(/, [0-9.]+ ms$/, '');
    for (const note of document.querySelectorAll('.widget-html-content div'))
        note.innerHTML = note.innerHTML.replace(/<br>the student is [0-9.]+ times as quick/, ''); }"""


@contextlib.contextmanager
def app():
    """The address of the page that `make app` serves, on a free port, as long as the context lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"app/explorer.ipynb --Voila.config_file_paths=app --no-browser --port={port}"
    command = [sys.executable, "-m", "voila", *options.split()]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=PATIENCE):
                break
            if server.poll() is not None or time.monotonic() > end:
                raise InputError(f"{' '.join(command)} does not answer; what does it say?")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def main(image: Path = ROOT / "docs" / "explorer.png"):
    """Writes `image`: wall, student, teacher and controls, 1160 pixels wide at most."""
    with app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        page.wait_for_function("document.querySelectorAll('img.widget-image[src]').length == 3")
        page.wait_for_function("document.querySelectorAll('.gsoc-kd-cell').length >= 10")
        page.get_by_role("button", name=re.compile("^automobile [0-9]")).first.click()
        page.get_by_text(re.compile("teacher, [0-9.]+ ms")).wait_for()
        page.mouse.move(0, 0)
        page.wait_for_timeout(2000)  # the teacher's image follows
        page.evaluate(WITHOUT_TIMES)
        shot = page.locator(".widget-vbox:has(.gsoc-kd-cell)").first.screenshot()
        browser.close()
    save_png(Image.open(io.BytesIO(shot)).convert("RGB"), image, max_kb=150)
    print(f"{image}: {image.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main)
