"""A real browser clicks: notebook 00 in JupyterLab, and the web page of `make app`. What it shows is compared by value.

Needs Chromium (Debian: apt-get install chromium; `.ci/run` does it). Both servers listen on this machine only, with
settings of their own in a temporary folder.
"""

import base64
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from gsoc_kd.core.figures import grid, png_bytes
from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.explorer.points import picture
from gsoc_kd.teachers.load import load_student, load_teacher

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds; a busy machine is slow, and a test must not care
FOLDERS = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"]
FOLDERS += ["JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"]


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("Chromium is not installed: left out are the tests that click in a real browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=PATIENCE * 1000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """Address of a JupyterLab on copies of the notebooks: it saves what it opens."""
    here = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", here / "notebooks", ignore=shutil.ignore_patterns("runs", ".*", "__pycache__"))
    options = "--no-browser --allow-root --ServerApp.ip=127.0.0.1 --IdentityProvider.token= --LabApp.news_url="
    command = [sys.executable, "-m", "jupyterlab", *options.split(), "--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={here / 'notebooks'}"]
    yield from served(command, here, "lab")


@pytest.fixture(scope="module")
def app(browser, tmp_path_factory):
    """Address of the page, served by the very command of `make app`."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^\t\$\(RUN\) (voila .*) \$\(ARGS\)$", makefile, re.M)
    command = [sys.executable, "-m", *shlex.split(recipe), "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}"]
    yield from served(command, tmp_path_factory.mktemp("app"), "")


def served(command, here, path):
    """Starts a server on a free port, gives its address once it answers, and ends it with all its kernels."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = os.environ | {name: str(here / name.lower()) for name in FOLDERS} | {"PYTHONPATH": str(ROOT)}
    command = [part.format(port=port) for part in command]
    with open(here / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=settings)
    address = f"http://127.0.0.1:{port}/{path}"
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(address, timeout=PATIENCE):
                    break
            except OSError as error:
                if server.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"{shlex.join(command)} does not answer ({error}):\n{(here / 'log').read_text()}")
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()  # it ends its kernels
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


class Visitor(contextlib.AbstractContextManager):
    """One person's page with the explorer on it."""

    def __init__(self, browser, address):
        self.context = browser.new_context(viewport={"width": 1200, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address, timeout=PATIENCE * 1000)

    def __exit__(self, *_):
        self.context.close()

    def click(self, name, times=1):
        """A button, by what stands on it."""
        self.page.get_by_role("button", name=name, exact=True).click(click_count=times)

    def pictures(self):
        """The bytes of the images on the page, student first."""
        shown = self.page.evaluate("""async () => Promise.all([...document.querySelectorAll('img.widget-image')].map(
            async image => { const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
                             return btoa(String.fromCharCode(...bytes)) }))""")
        return [base64.b64decode(png) for png in shown]

    def wait_for(self, *pictures):
        """Until exactly these are on the page."""
        end = time.monotonic() + PATIENCE
        while (shown := self.pictures()) != list(pictures):
            assert time.monotonic() < end, f"the page shows other images ({[len(png) for png in shown]} bytes)"
            self.page.wait_for_timeout(50)

    def check(self):
        """Nothing went wrong on the page."""
        errors = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
        assert self.page.locator(errors).all_inner_texts() == []
        assert "Traceback" not in self.page.inner_text("body") and self.faults == []


@pytest.fixture(scope="module")
def drawn():
    """drawn(class name, seed, ...) -> the two PNGs that the page must show, student first."""
    generators = load_student(), load_teacher()

    def both(name, seed=0, **places):
        shown = [picture(generator, seed, CIFAR10_CLASSES.index(name), **places) for generator in generators]
        return [png_bytes(grid(image[None], columns=1, scale=8, pad=0)) for image in shown]

    return both


def play(visitor, drawn):
    """What a hand does, on whichever page: every control changes the images to what they must be."""
    page = visitor.page
    visitor.wait_for(*drawn("airplane"))
    for name in ("ship", "horse"):
        visitor.click(name)
        visitor.wait_for(*drawn(name))
    with page.expect_download() as download:
        page.get_by_role("link", name="save PNG").first.click()
    assert download.value.suggested_filename == "gsoc_kd-student-horse-seed0.png"
    assert Path(download.value.path()).read_bytes() == drawn("horse")[0]
    page.get_by_label("second class").select_option("ship")
    mix = page.locator(".widget-slider", has_text="mix").locator(".widget-readout")
    mix.fill("0.4")
    mix.press("Enter")
    between = dict(to=CIFAR10_CLASSES.index("ship"), mix=0.4)
    visitor.wait_for(*drawn("horse", **between))
    seed = page.locator(".widget-slider", has_text=re.compile(r"^\s*seed")).locator(".widget-readout")
    assert seed.inner_text() == "0"
    visitor.click("new seed")
    page.wait_for_function("readout => readout.innerText != '0'", arg=seed.element_handle())
    visitor.wait_for(*drawn("horse", seed=int(seed.inner_text()), **between))
    visitor.check()


def test_notebook_00_in_jupyterlab(lab, browser, drawn):
    with Visitor(browser, f"{lab}/tree/00_sample_the_student.ipynb") as visitor:
        page = visitor.page
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.get_by_text("| Idle").wait_for()  # the status bar: cells run before the kernel is there are lost
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem").filter(has_text="Run All Cells").first.click()
        page.locator("img.widget-image").first.wait_for(state="attached")
        play(visitor, drawn)


def test_the_web_page_shows_the_explorer_and_no_code_and_twenty_fast_clicks_do_not_break_it(app, browser, drawn):
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    with Visitor(browser, app) as visitor:
        play(visitor, drawn)
        text = visitor.page.inner_text("body")
        assert "A small network" in text and "import" not in text and "explore()" not in text
        assert visitor.page.locator(".jp-InputArea-editor, .jp-InputPrompt, .highlight").count() == 0
        assert visitor.page.get_by_role("link", name="the project").get_attribute("href") == address
    with Visitor(browser, app) as visitor:
        visitor.wait_for(*drawn("airplane"))
        visitor.page.evaluate("""async () => {
            const buttons = [...document.querySelectorAll('button.widget-toggle-button')];
            for (let click = 1; click <= 20; click++) {
                buttons[(3 * click + 1) % buttons.length].click();
                await new Promise(done => setTimeout(done, 20));
            } }""")
        visitor.wait_for(*drawn(CIFAR10_CLASSES[(3 * 20 + 1) % 10]))
        visitor.click("frog", times=20)
        visitor.wait_for(*drawn("frog"))
        for click in range(20):
            visitor.click(CIFAR10_CLASSES[(click + 1) % 9])
        visitor.wait_for(*drawn(CIFAR10_CLASSES[20 % 9]))
        visitor.check()


def test_two_visitors_do_not_disturb_each_other(app, browser, drawn):
    with Visitor(browser, app) as one, Visitor(browser, app) as other:
        for visitor in (one, other):
            visitor.wait_for(*drawn("airplane"))
        one.click("ship")
        one.wait_for(*drawn("ship"))
        assert other.pictures() == drawn("airplane")
        other.click("horse")
        other.wait_for(*drawn("horse"))
        assert one.pictures() == drawn("ship")
        for visitor, name in ((one, "ship"), (other, "horse")):
            assert visitor.page.locator("button.mod-active").inner_text() == name
            visitor.check()
