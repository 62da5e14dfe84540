"""The page *Try it* in a real browser: it shows what PyTorch generates, does what hands ask, and needs nothing else.

Needs Chromium and onnxruntime-web in npm's cache, where `make docs` leaves it; without them the tests say so.
"""

import contextlib
import errno
import functools
import math
import re
import shutil

import numpy as np
import pytest
import test_browser
import torch
from PIL import Image
from test_docs import broken
from test_site import build
from try_look import served, settled
from try_page import RUNTIME, fetch_runtime, try_page

import gsoc_kd as kd
from gsoc_kd.core.files import InputError, replacing_folder
from gsoc_kd.data import CIFAR10_CLASSES, to_uint8
from gsoc_kd.explorer.points import slerp
from gsoc_kd.networks import ConvGenerator

browser = test_browser.browser  # the fixture: Chromium
SHIP, HORSE = (CIFAR10_CLASSES.index(name) for name in ("ship", "horse"))


@pytest.fixture(scope="module")
def make():
    """make(folder, network): the page of a network, with no other runtime than npm's cache has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_offline", "true")

        def make(folder, network):
            try:
                return try_page(folder, network).parent
            except InputError as error:
                if RUNTIME not in str(error):
                    raise
                pytest.skip(f"left out are the tests of the page Try it: {error}; `make docs` fetches it")

        yield make


@pytest.fixture(scope="module")
def folder(make, tmp_path_factory):
    """The page of the bundled student, in a folder `try`."""
    return make(tmp_path_factory.mktemp("site") / "try", kd.load_student())


@contextlib.contextmanager
def visit(browser, folder, address="", **options):
    """A browser's page on it, once everything is painted; no error on it, nothing loaded from elsewhere."""
    with served(folder.parent) as home:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        page, faults, asked = context.new_page(), [], []
        page.set_default_timeout(test_browser.PATIENCE * 1000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        settled(page, f"{home}{folder.name}/{address}")
        yield page
        assert faults == [] and [url for url in asked if not re.match(f"{home}|data:|blob:", url)] == []
        context.close()


@pytest.fixture(scope="module")
def page(browser, folder):
    with visit(browser, folder, "#class=ship&seed=7") as page:
        yield page


def generated(z, weights):
    """PyTorch's image (32, 32, 3) of a latent and class weights."""
    rows = (torch.as_tensor(row, dtype=torch.float32)[None] for row in (z, weights))
    with torch.inference_mode():
        return to_uint8(kd.load_student()(*rows))[0].numpy().astype(int)


def between(name=SHIP, other=SHIP, share=0.0):
    weights = np.zeros(10)
    weights[name] += 1 - share
    weights[other] += share
    return weights


def latent(page, seed):
    return page.evaluate("seed => [...latent(seed, student.z_dim)]", seed)


def shown(page, canvas, size=32):
    """What a canvas shows, once it is up to date: (32, 32, 3)."""
    current = "css => targets.some(t => t.canvas.matches(css) && t.shown === JSON.stringify(t.point()))"
    page.wait_for_function(current, arg=canvas)
    data = page.evaluate("""([css, size]) => [...document.querySelector(css).getContext('2d')
        .getImageData(0, 0, size, size).data]""", [canvas, size])  # fmt: skip
    return np.array(data).reshape(size, size, 4)[size // 64 :: size // 32, size // 64 :: size // 32, :3]


def sample(name, column):
    return f"button[data-class={name}][data-column='{column}'] canvas"


def test_images_are_pytorchs_within_one_grey_level(page):
    rng = np.random.default_rng(0)
    latents, weights = rng.normal(size=(24, 128)).astype(np.float32), np.eye(10)[np.arange(24) % 10]
    weights[20:] = rng.dirichlet(np.ones(10), 4)  # between classes
    run = "async points => { const all = []; for (const p of points) all.push([...await generate(...p)]); return all }"
    made = np.array(page.evaluate(run, [[z.tolist(), y.tolist()] for z, y in zip(latents, weights)]))
    expected = np.stack([generated(z, y) for z, y in zip(latents, weights)])
    assert abs(made.reshape(24, 32, 32, 3) - expected).max() <= 1


def mulberry32(seed):
    """The generator of the page, written out again."""
    state = seed
    while True:
        state = (state + 0x6D2B79F5) % 2**32
        t = (state ^ state >> 15) * (state | 1) % 2**32
        t ^= (t + (t ^ t >> 7) * (t | 61)) % 2**32
        yield t ^ t >> 14


def polar(seed, size):
    numbers, z = mulberry32(seed), []
    while len(z) < size:
        u, v = ((next(numbers) + 0.5) / 2**31 - 1 for _ in range(2))
        if (s := u * u + v * v) < 1:
            z += [u * math.sqrt(-2 * math.log(s) / s), v * math.sqrt(-2 * math.log(s) / s)]
    return np.float32(z[:size])


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_seeds_latent_is_that_of_the_documented_generator(page, seed):
    np.testing.assert_allclose(latent(page, seed), polar(seed, 128), rtol=1e-6)
    numbers = mulberry32(seed)
    uniform = page.evaluate("seed => [...latent(seed, 9, 'uniform')]", seed)
    np.testing.assert_allclose(uniform, [next(numbers) / 2**32 for _ in range(9)], atol=1e-7)


def test_latents_are_standard_normal_and_independent(page):
    z = np.array([latent(page, seed) for seed in range(300)])  # (300, 128)
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02 and abs((z**4).mean() - 3) < 0.2
    assert abs(np.corrcoef(z) - np.eye(300)).max() < 0.5  # 5.6 deviations
    steps = [page.evaluate("x => log(x)", x) for x in (1e-12, 0.3, 0.7, 0.999999, 1)]
    np.testing.assert_allclose(steps, np.log([1e-12, 0.3, 0.7, 0.999999, 1]), rtol=1e-14, atol=1e-16)


def test_the_large_image_follows_a_finger_in_every_frame(page):
    """With a network that costs nothing, so that a busy machine does not matter."""
    painted = page.evaluate("""async () => {
        const real = generate, image = await generate(...inputs(state)), before = stages;
        generate = async () => image;
        for (let i = 1; i <= 40; i++) {
            $("walk").value = i / 40;
            $("walk").dispatchEvent(new Event("input"));
            await frame();
        }
        const painted = stages - before;
        generate = real;
        for (const target of targets) target.shown = "";
        change({ walk: 0 });
        return painted }""")
    assert painted >= 36  # of 40


@pytest.mark.parametrize("walk", [0, 0.25, 0.5, 1])
def test_a_walk_is_the_packages_slerp(page, walk):
    way = page.evaluate("t => [...slerp(latent(1, student.z_dim), latent(2, student.z_dim), t)]", walk)
    np.testing.assert_allclose(way, slerp(*torch.tensor([latent(page, 1), latent(page, 2)]), walk), atol=2e-6)


def test_the_link_carries_the_state_and_the_canvases_show_it(page):
    page.evaluate("location.hash = 'class=ship&seed=7&with=horse&mix=0.4&to=4&walk=0.3'")
    page.wait_for_function("state.walk === 0.3")
    page.get_by_label("squares").check()
    z = slerp(*torch.tensor([latent(page, 7), latent(page, 4)]), 0.3)
    assert abs(shown(page, "#stage", 512) - generated(z, between(SHIP, HORSE, 0.4))).max() <= 1
    assert abs(shown(page, "#mix-to") - generated(z, between(HORSE))).max() <= 1
    assert abs(shown(page, "#walk-to") - generated(latent(page, 4), between(SHIP, HORSE, 0.4))).max() <= 1
    assert abs(shown(page, sample("horse", 3)) - generated(latent(page, 3), between(HORSE))).max() <= 1
    with page.expect_download() as download:
        page.get_by_role("button", name="save PNG").click()
    assert download.value.suggested_filename == "gsoc_kd-ship-horse-0.4-seed7-to4-0.3.png"
    saved = np.array(Image.open(download.value.path()).convert("RGB"))
    assert saved.shape == (512, 512, 3) and (saved[8::16, 8::16] == shown(page, "#stage", 512)).all()
    page.get_by_role("button", name="frog", exact=True).click()
    page.wait_for_function("location.hash === '#class=frog&seed=7&to=4&walk=0.3'")


@pytest.mark.parametrize("hash", ["", "#class=unicorn&seed=-3&mix=x&walk=9&to=1e99", "#seed=%00&with=&class="])
def test_a_link_that_says_nonsense_leads_to_an_image(page, hash):
    page.evaluate("hash => { location.hash = hash; follow() }", hash)
    assert shown(page, "#stage", 512).std() > 1
    state = page.evaluate("state")
    assert state["class"] == "ship" and 0 <= state["seed"] < 2**32 and 0 <= state["walk"] <= 1 and state["mix"] == 0


def test_hands_and_keys(page):
    page.evaluate("location.hash = 'class=ship&seed=7'")
    page.wait_for_function("state.seed === 7 && state.walk === 0")
    page.get_by_role("button", name="cat, seed 2", exact=True).click()
    assert "cat, seed 2" in page.locator("#stage").get_attribute("aria-label")
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.ariaLabel") == "deer, seed 3"
    assert page.evaluate("[state.class, state.seed]") == ["deer", 3]
    page.get_by_label("class mix").focus()
    for key in ("ArrowRight", "End", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate("state.mix") == 0.99
    page.get_by_label("second class").select_option("frog")
    page.get_by_label("walk between seeds").fill("0.5")
    assert page.inner_text("#caption") == "deer to frog, 99 %; seed 3 to 4, 50 %"
    page.get_by_label("seed", exact=True).fill("19801224")
    page.keyboard.press("Enter")
    assert page.evaluate("state.seed") == 19801224
    rows = page.evaluate("[7, 19801224, 2 ** 32 - 1].map(following)")  # play stays in the row that it has come to
    assert rows == [0, 19801225, 2**32 - 8]
    page.get_by_role("button", name="new seeds").click()
    assert page.evaluate("state.seed") not in (3, 19801224) and shown(page, "#stage", 512).std() > 1
    page.get_by_role("button", name="play").click()
    page.wait_for_function("state.walk > 0.5 && state.walk < 0.9")
    page.get_by_role("button", name="pause").click()


def test_the_page_says_how_many_images_came_in_the_last_second(page):
    came = "made = [-1500, -1200, -500, -400, -300, -200, -100, 0].map(time => performance.now() + time)"
    page.evaluate(f"() => {{ {came}; milliseconds = 1.5; speed() }}")
    assert page.inner_text("#speed") == "10 images/s, 1.5 ms each"


def test_every_image_and_every_control_has_a_name(page):
    nameless = """[...document.querySelectorAll("canvas[role=img], .row button, input, select")].filter(
        element => !element.ariaLabel && !element.labels?.[0]?.textContent.trim()).length"""
    assert page.evaluate(nameless) == 0 and page.locator(".row button").count() == 80
    assert page.locator(".row button[tabindex='0']").count() <= 1


def test_without_network_it_goes_on(page):
    page.context.set_offline(True)
    page.get_by_role("button", name="new seeds").click()
    z = latent(page, page.evaluate("state.seed"))
    assert abs(shown(page, sample("truck", 0)) - generated(z, np.eye(10)[9])).max() <= 1
    page.context.set_offline(False)


@pytest.mark.parametrize("width, scheme", [(390, "light"), (390, "dark"), (1280, "dark")])
def test_it_fits_a_phone_and_a_dark_room(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    light = sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))))
    assert light > 700 if scheme == "light" else light < 100
    page.locator(sample("truck", 5)).click()  # below the image on a phone, which then comes into sight
    page.wait_for_function("document.getElementById('stage').getBoundingClientRect().top >= 0")


def test_a_student_of_other_classes_and_size(make, browser, tmp_path):
    network = ConvGenerator(z_dim=6, num_classes=3, resolution=8, widths=(8, 4), embed_dim=4).eval()
    network.classes, network.z_from = ("a", "b c", "ß"), "uniform"
    with visit(browser, make(tmp_path / "mine", network), "#class=b+c&seed=9&to=3&walk=0.25") as page:
        assert page.locator(".row button").count() == 24 and page.inner_text("#caption") == "b c; seed 9 to 3, 25 %"
        a, b = (torch.tensor([page.evaluate("seed => [...latent(seed, 6, 'uniform')]", s)]) for s in (9, 3))
        with torch.inference_mode():
            expected = to_uint8(network(torch.lerp(a, b, 0.25), torch.tensor([1])))[0].numpy().astype(int)
        page.get_by_label("squares").check()
        assert abs(shown(page, "#stage", 512)[2::4, 2::4] - expected).max() <= 1


def test_page_and_model_are_below_one_megabyte_and_the_license_is_there(folder):
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert sum(size for name, size in files.items() if not name.startswith("runtime/")) < 1_000_000
    assert "MIT License" in (folder / "runtime" / "LICENSE").read_text() and len(files) == 8


def test_its_readme_has_sound_links_and_stands_on_the_site_where_the_page_could_not_be_made(tmp_path):
    assert broken(test_browser.ROOT / "docs" / "try" / "README.md") == []
    build.write_sources(tmp_path)
    assert "/docs/try.jpg" in (tmp_path / "try" / "index.md").read_text(encoding="utf-8")
    assert "[Try it](/try/index.md)" in (tmp_path / "index.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_without_npm_the_site_is_built_and_says_what_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "write_sources", lambda folder: (folder / "index.md").write_text("# x\n"))
    monkeypatch.setenv("PATH", "")
    assert build.site(tmp_path).is_file() and not (tmp_path / "site" / "try").exists()
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("left out of the site: the page Try it, since npm") and "not installed" in line
    with pytest.raises(SystemExit, match="the page was not made: npm"):
        build.try_alone(tmp_path)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_full_disk_leaves_no_site_without_its_page(tmp_path, monkeypatch):
    def full(folder, student):
        with replacing_folder(folder):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "write_sources", lambda folder: (folder / "index.md").write_text("# x\n"))
    monkeypatch.setattr(build, "try_page", full)
    with pytest.raises(InputError, match="the disk is full"):
        build.site(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script, why", [("exit 1", "does not give"), ('echo x >"$4/x.tgz"', "SHA-512 differs")])
def test_another_package_than_the_pinned_one_is_refused(tmp_path, monkeypatch, script, why):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", functools.partial(shutil.which, path=str(tmp_path)))
    with pytest.raises(InputError, match=why):
        fetch_runtime(tmp_path / "runtime")
    assert not (tmp_path / "runtime").exists()
