"""A real browser clicks: notebook 00 in JupyterLab, and the web page of `make app`. What it shows is compared by value.

Needs Chromium (Debian: apt-get install chromium; `.ci/run` does it). Both servers listen on this machine only, with
settings of their own in a temporary folder.
"""

import base64
import contextlib
import json
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
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from gsoc_kd.data.images import CIFAR10_CLASSES
from gsoc_kd.explorer import explore, image_at
from gsoc_kd.explorer.views import difference, enlarged
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
    yield from served(voila(), tmp_path_factory.mktemp("app"), "")


@pytest.fixture(scope="module")
def small_app(tmp_path_factory):
    """(address, log) of the page with room for three visitors, of whom the fixture is the first."""
    here = tmp_path_factory.mktemp("small_app")
    few = "--FewKernels.most=3", "--VoilaConfiguration.default_pool_size=1"
    for address in served([*voila(), *few], here, ""):
        yield address, here / "log"


def voila():
    """The command of `make app`, for a port of the tests."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^\t\$\(RUN\) (voila .*) \$\(ARGS\)$", makefile, re.M)
    return [sys.executable, "-m", *shlex.split(recipe), "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}"]


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

    def images(self):
        """The bytes of the images on the page: student, teacher, difference."""
        shown = self.page.evaluate("""async () => Promise.all([...document.querySelectorAll('img.widget-image')].map(
            async image => { const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
                             return btoa(String.fromCharCode(...bytes)) }))""")
        return [base64.b64decode(png) for png in shown]

    def wait_for(self, *images):
        """Until exactly these are on the page."""
        end = time.monotonic() + PATIENCE
        while (shown := self.images()) != list(images):
            if time.monotonic() > end:
                same = [one == other for one, other in zip(shown, images)]
                said = [text for text in self.page.locator(".widget-html").all_inner_texts() if len(text) < 200]
                pytest.fail(
                    f"the page shows other images, student, teacher and difference right: {same}; it says {said}"
                )
            self.page.wait_for_timeout(50)

    def kernel(self):
        """The id of the page's kernel."""
        page = self.page.locator("#jupyter-config-data").text_content()
        return json.loads(page)["kernelId"]

    def check(self):
        """Nothing went wrong on the page."""
        errors = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"
        assert self.page.locator(errors).all_inner_texts() == []
        assert "Traceback" not in self.page.inner_text("body") and self.faults == []


@pytest.fixture(scope="module")
def drawn():
    """drawn(class name, seed, ...) -> the three PNGs that the page must show: student, teacher, difference."""
    generators = load_student(), load_teacher()

    def all_three(name, seed=0, smooth=True, **places):
        shown = [image_at(generator, seed, CIFAR10_CLASSES.index(name), **places) for generator in generators]
        return [enlarged(image, smooth=smooth) for image in (*shown, difference(*shown)[0])]

    return all_three


@pytest.fixture(scope="module")
def wall():
    """The wall on which the page opens."""
    return explore(teacher=None).parts.wall


def samples_seen(page):
    """How many buttons of the wall show a part of its image."""
    return page.evaluate("""() => [...document.querySelectorAll('.gsoc-kd-cell')].filter(cell => {
        const look = getComputedStyle(cell), place = cell.getBoundingClientRect();
        return look.backgroundImage.startsWith('url("data:image/png') && place.width > 40 && place.height > 40;
    }).length""")


def play(visitor, drawn, wall):
    """What a hand does, on whichever page: every control changes the images to what they must be."""
    page = visitor.page
    label, seed = wall.best()
    visitor.wait_for(*drawn(CIFAR10_CLASSES[label], seed))
    assert samples_seen(page) == 60
    assert page.get_by_text("the evaluation classifier sees").count() == 2
    for name, column in (("ship", 0), ("automobile", 5), ("horse", 2)):
        seed = int(wall.seeds[CIFAR10_CLASSES.index(name), column])
        visitor.click(f"{name} {seed}")
        visitor.wait_for(*drawn(name, seed))
    with page.expect_download() as download:
        page.get_by_role("link", name="save PNG").first.click()
    assert download.value.suggested_filename == f"gsoc_kd-student-horse-seed{seed}.png"
    assert Path(download.value.path()).read_bytes() == drawn("horse", seed)[0]
    visitor.click("squares")
    visitor.wait_for(*drawn("horse", seed, smooth=False))
    visitor.click("smooth")
    visitor.wait_for(*drawn("horse", seed))
    drag(visitor, "walk")
    page.get_by_label("second class").select_option("ship")
    slider(page, "mix").locator(".widget-readout").fill("0.4")
    slider(page, "mix").locator(".widget-readout").press("Enter")
    slider(page, "walk").locator(".widget-readout").fill("0")
    slider(page, "walk").locator(".widget-readout").press("Enter")
    between = dict(to=CIFAR10_CLASSES.index("ship"), mix=0.4)
    visitor.wait_for(*drawn("horse", seed, **between))
    readout = slider(page, "seed").locator(".widget-readout")
    assert readout.inner_text() == str(seed)
    visitor.click("new seed")
    page.wait_for_function(f"readout => readout.innerText != '{seed}'", arg=readout.element_handle())
    visitor.wait_for(*drawn("horse", seed=int(readout.inner_text()), **between))
    visitor.check()


def slider(page, name):
    return page.locator(".widget-slider", has_text=re.compile(rf"^\s*{name}"))


def drag(visitor, name):
    """Drags a slider to its right end: the student follows before the finger is lifted."""
    mouse, before = visitor.page.mouse, visitor.images()[0]
    handle = slider(visitor.page, name).locator(".noUi-handle").bounding_box()
    mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    mouse.down()
    seen, end = {before}, time.monotonic() + PATIENCE
    for step in range(1, 9):
        mouse.move(handle["x"] + handle["width"] / 2 + 10 * step, handle["y"] + handle["height"] / 2)
        while len(seen) <= step and visitor.images()[0] in seen:
            assert time.monotonic() < end, "the image does not follow the drag"
            visitor.page.wait_for_timeout(20)
        seen.add(visitor.images()[0])
    mouse.up()


def test_notebook_00_in_jupyterlab(lab, browser, drawn, wall):
    with Visitor(browser, f"{lab}/tree/00_sample_the_student.ipynb") as visitor:
        page = visitor.page
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.get_by_text("| Idle").wait_for()  # the status bar: cells run before the kernel is there are lost
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem").filter(has_text="Run All Cells").first.click()
        page.locator("img.widget-image").first.wait_for(state="attached")
        play(visitor, drawn, wall)


def test_the_web_page_shows_the_explorer_and_no_code_and_twenty_fast_clicks_do_not_break_it(app, browser, drawn, wall):
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    with Visitor(browser, app) as visitor:
        play(visitor, drawn, wall)
        text = visitor.page.inner_text("body")
        assert "A small network" in text and "import" not in text and "explore()" not in text
        assert visitor.page.locator(".jp-InputArea-editor, .jp-InputPrompt, .highlight").count() == 0
        assert visitor.page.get_by_role("link", name="the project").get_attribute("href") == address
    with Visitor(browser, app) as visitor:
        label, seed = wall.best()
        visitor.wait_for(*drawn(CIFAR10_CLASSES[label], seed))
        visitor.page.evaluate("""async () => {
            const buttons = [...document.querySelectorAll('button.gsoc-kd-head')];
            for (let click = 1; click <= 20; click++) {
                buttons[(3 * click + 1) % buttons.length].click();
                await new Promise(done => setTimeout(done, 20));
            } }""")
        visitor.wait_for(*drawn(CIFAR10_CLASSES[(3 * 20 + 1) % 10], seed))
        visitor.click("frog", times=20)
        visitor.wait_for(*drawn("frog", seed))
        for click in range(20):
            visitor.click(CIFAR10_CLASSES[(click + 1) % 9])
        visitor.wait_for(*drawn(CIFAR10_CLASSES[20 % 9], seed))
        visitor.check()


def test_two_visitors_do_not_disturb_each_other_and_an_ended_page_says_so(app, browser, drawn, wall):
    label, seed = wall.best()
    with Visitor(browser, app) as one, Visitor(browser, app) as other:
        for visitor in (one, other):
            visitor.wait_for(*drawn(CIFAR10_CLASSES[label], seed))
        one.click("ship")
        one.wait_for(*drawn("ship", seed))
        assert other.images() == drawn(CIFAR10_CLASSES[label], seed)
        other.click("horse")
        other.wait_for(*drawn("horse", seed))
        assert one.images() == drawn("ship", seed)
        for visitor, name in ((one, "ship"), (other, "horse")):
            assert visitor.page.locator("select").first.evaluate("list => list.selectedOptions[0].text") == name
            visitor.check()
        assert one.page.locator("#ended").count() == 0
        status, _ = answer(f"{app}voila/api/shutdown/{one.kernel()}", method="POST")
        assert status == 204
        one.page.get_by_role("alert").filter(has_text="This page has ended").wait_for()
        one.page.get_by_role("alert").click()  # begins again
        one.wait_for(*drawn(CIFAR10_CLASSES[label], seed))
        assert other.page.locator("#ended").count() == 0
        kernel = other.kernel()
        assert answer(f"{app}api/kernels/{kernel}")[0] == 200
        other.page.goto("about:blank")  # a page that is left ends its kernel
        end = time.monotonic() + PATIENCE
        while answer(f"{app}api/kernels/{kernel}")[0] != 404:
            assert time.monotonic() < end, "the kernel of a page that was left goes on"
            time.sleep(0.2)


# ---------------------------------------------------------------- what one machine gives away, without a browser


def answer(address, method="GET", **headers):
    """(status, text) of a request."""
    request = urllib.request.Request(address, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_visitors_are_limited_and_a_place_that_gets_free_is_given_on(small_app):
    address, log = small_app
    kernels = []
    for _ in range(2):
        status, text = answer(address)
        kernels += re.findall(r'"kernelId": ?"([^"]+)"', text)
        assert status == 200 and "widget" in text
    assert len(set(kernels)) == 2
    for _ in range(2):
        status, text = answer(address)
        assert status == 503 and "All 3 places are taken, please come again in some minutes" in text
    leave = f"{address}voila/api/shutdown/{kernels[0]}"
    assert answer(leave, "POST", Origin="http://evil.example")[0] in (403, 404) and answer(address)[0] == 503
    assert answer(leave, "POST")[0] == 204  # what a page does that is left
    status, text = answer(address)
    assert status == 200 and not set(re.findall(r'"kernelId": ?"([^"]+)"', text)) & set(kernels)
    assert answer(address)[0] == 503
    said = log.read_text(encoding="utf-8")
    assert "Culling kernels with idle durations > 1200 seconds at 60 second intervals" in said
    assert "Culling kernels even with connected clients" in said


PATHS = ["", "api/kernels/{kernel}", "api/kernels/{kernel}/channels", "voila/api/shutdown/{kernel}"]


@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_is_not_this_machine_s_is_refused(small_app, path):
    kernel, method = "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "POST" if "shutdown" in path else "GET"
    address, port = small_app[0] + path.format(kernel=kernel), re.search(r":(\d+)/", small_app[0])[1]
    for host in ("evil.example", "evil.example:80", f"127.0.0.1.evil.example:{port}", "192.0.2.7", f"0x7f.1:{port}"):
        assert answer(address, method, Host=host, Origin=f"http://{host}")[0] == 403, host
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert answer(address, method, Host=host)[0] != 403, host


def test_the_page_and_the_docs_say_the_numbers():
    settings = (ROOT / "app" / "voila.py").read_text(encoding="utf-8")
    most, waiting, minutes = (
        int(re.search(pattern, settings)[1])
        for pattern in (r"most = Int\((\d+)", r"default_pool_size = (\d+)", r"cull_idle_timeout = (\d+) \* 60")
    )
    page = " ".join((ROOT / "app" / "explorer.ipynb").read_text(encoding="utf-8").split())
    assert f"nothing was touched for {minutes} minutes" in page and f"room for {most} visitors" in page
    docs = " ".join((ROOT / "docs" / "Getting-Started.md").read_text(encoding="utf-8").split())
    assert f"at most {most} kernels" in docs and f"{waiting} of them" in docs and f"{minutes} minutes" in docs
