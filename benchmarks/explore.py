"""How long after a release the student's picture is there: in the kernel, and in a browser on the page of `make app`.

    python benchmarks/explore.py [--changes 200] [--student embedded] [--teacher embedded] [--no-browser]
    python benchmarks/explore.py --screenshot docs/explorer.png          # remakes the picture in the wiki, too

In the kernel: from the change of a slider to the bytes of the PNG. In the browser (if Chromium is installed): from the
click on a class to the picture's decoding, through Voila, the network of this machine and the kernel; the embedded
networks. The teacher's picture, which follows, is not waited for, but its work goes on beside the measurement.
"""

import asyncio
import io
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import tyro
from PIL import Image

from gsoc_kd.core.figures import save_png
from gsoc_kd.explorer.widgets import explore

ROOT = Path(__file__).resolve().parent.parent
WARM = 10  # changes before those that count
CLICKS = """async count => {
    const image = document.querySelector('img.widget-image'), times = [];
    const buttons = document.querySelectorAll('button.widget-toggle-button');
    for (let click = 1; click <= count; click++) {
        const start = performance.now();
        const changed = new Promise(done => {
            const observer = new MutationObserver(() => { observer.disconnect(); done(); });
            observer.observe(image, {attributes: true, attributeFilter: ['src']});
        });
        buttons[click % buttons.length].click();
        await changed;
        await image.decode();
        times.push(performance.now() - start);
        await new Promise(done => setTimeout(done, 300));
    }
    return times;
}"""


async def in_the_kernel(student, teacher, changes):
    """Milliseconds a change; in an event loop, as in a notebook, so that the teacher's work runs in its thread."""
    parts, times = explore(student, teacher).parts, []
    for seed in range(1, WARM + changes + 1):
        start = time.perf_counter()
        parts.seed.value = seed
        times.append((time.perf_counter() - start) * 1000)
        await asyncio.sleep(0.02 if seed % 10 else 0.3)  # in bursts: the teacher is drawn after each
    return times[WARM:]


def in_the_browser(clicks, screenshot=None):
    """Milliseconds a click, or None without Chromium."""
    sys.path.insert(0, str(ROOT / "tests"))
    from playwright.sync_api import sync_playwright
    from test_browser import Visitor, app_command, chromium, served

    if chromium() is None:
        return None
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = served(app_command(), Path(folder), "")
        try:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            with Visitor(browser, next(server)) as visitor:
                visitor.page.locator("img.widget-image").first.wait_for()
                visitor.page.evaluate(CLICKS, WARM)
                times = visitor.page.evaluate(CLICKS, clicks)
                if screenshot:
                    visitor.page.set_viewport_size({"width": 960, "height": 590})
                    visitor.click("ship")
                    visitor.page.wait_for_timeout(2000)  # the teacher's picture follows
                    save_png(Image.open(io.BytesIO(visitor.page.screenshot())), screenshot, max_kb=100)
            browser.close()
        finally:
            server.close()
    return times


def report(where, times):
    times = sorted(times)
    print(
        f"{where}: median {statistics.median(times):.0f} ms, 95 % within {times[int(0.95 * len(times))]:.0f} ms, "
        f"longest {times[-1]:.0f} ms ({len(times)} changes)"
    )


def main(
    changes: int = 200,
    student: str = "embedded",
    teacher: str = "embedded",
    browser: bool = True,
    screenshot: Path | None = None,
):
    """Prints one line for the kernel and one for the browser; a screenshot of the page is written if asked for."""
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores ({platform.machine()}), PyTorch {torch.__version__}"
    )
    report("kernel, release to PNG", asyncio.run(in_the_kernel(student, teacher, changes)))
    if browser:
        times = in_the_browser(max(20, changes // 4), screenshot)
        print("browser: left out, Chromium is not installed") if times is None else report(
            "browser, release to picture", times
        )


if __name__ == "__main__":
    tyro.cli(main)
