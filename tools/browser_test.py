"""The explorer in a real browser: as one file from the disk, and in JupyterLab, live, recorded, saved and opened again without a kernel. Everything is moved and clicked, and the picture changes each time."""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from notebooks import NBS
from run_tests import SKIPPED

ROOT = NBS.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = ((1280, 720), (1366, 768), (1920, 1080))
LIMIT_MS = 50  # from a slider's move to the picture
CELLS = [
    "from pathlib import Path\nfrom experiment.model import load\nfrom experiment.explorer import explore",
    "explore('experiment/data/payload/approach_0016.pt')",
    "live = explore(load('demo'), 'approach', frame='0016')\nlive",
]
OBJECTS = dict(
    unit="m/s",
    rows=[
        {"name": "car ahead", "box": [150, 70, 200, 115], "outline": [[[150, 70], [200, 70], [200, 115], [150, 115]]], "for": 1.3, "against": 0.1, "alone": 3.2, "shapley": 3.0, "error": 0.1},
        {"name": "<b>billboard</b>", "box": [105, 50, 140, 75], "outline": [], "for": 0.1, "against": 0.0, "alone": 0.0, "shapley": 0.0, "error": 0.1},
    ],
)
SOURCES = dict(unit="m/s", rows=[{"name": "frame", "kind": "image", "contribution": 1.0}, {"name": "speed", "kind": "word", "contribution": -0.3}])


def browser() -> str | None:
    "Path of an installed Chromium."
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing() -> str:
    "Why the test cannot run here; empty when it can."
    if not browser():
        return f"no browser ({', '.join(BROWSERS)}); on Debian: apt-get install chromium"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "no playwright; pip install -e '.[dev]'"
    return ""


def scene(path: Path, frames: int, tiles: int) -> None:
    "A page of a scene with two questions, made of the bundled frames and of smooth noise: 2 tiles of 12 × 12 patches or 13 of 32 × 32."
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from experiment.frame.tiles import internvl_layout, read_frame, simlingo_layout
    from experiment.report.bundle import Asked, Bundle, finished, frame_entry, layout_number, packed, spoken
    from experiment.report.html import write_html

    files = sorted((ROOT / "experiment/data/scenes/approach/video_garmin").glob("*.png"))[:frames]
    bundle, random = Bundle("scene"), np.random.default_rng(0)
    for i, file in enumerate(files):
        picture = read_frame(file)
        layout = simlingo_layout(168, 336, 168, crop=False)
        if tiles == 13:
            picture = picture.resize((1792, 1344))
            layout = internvl_layout(1344, 1792)
        assert layout.n_tiles == tiles, layout
        words = spoken(["brake", " <b>car</b>", "<|im_end|>"])
        points = [[layout.frame[1] / 2, layout.frame[0] * y] for y in (0.95, 0.8, 0.7)]
        entry = frame_entry(bundle, file.stem, layout_number(bundle, layout), picture, "approach", words=words, route=points)
        for target, chosen in (("-forward_speed", []), ("index:0", [0])):
            values = gaussian_filter(random.normal(size=(tiles, layout.side, layout.side)), 1.5)
            number = bundle.question(Asked(target, "centred", "m/s", "m/s"), float(abs(values).max()))
            found = dict(question=number, value=float(i**2), refused="", stamp="", notes=[], words=chosen, objects=OBJECTS, sources=SOURCES)
            entry["answers"].append(found | packed(values))
        bundle.add(entry)
    write_html(path, finished(bundle))


def stage(folder: Path) -> None:
    "A folder with a notebook of three cells: the server may write what it likes."
    import nbformat

    (folder / "experiment").symlink_to(ROOT / "experiment")
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    nb.metadata.kernelspec = dict(name="python3", display_name="python3", language="python")
    nbformat.write(nb, folder / "explorer.ipynb")


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    "JupyterLab on a free port, with settings of its own; the process and the notebook's address."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        f"JUPYTER{name}_DIR": str(folder / ".jupyter" / name)
        for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")
    }
    quiet = (
        Path(own["JUPYTERLAB_SETTINGS_DIR"]) / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    )
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--port-retries=0",
        f"--ServerApp.root_dir={folder}",
        "--IdentityProvider.token=T",
        "--expose-app-in-browser",
    ]
    env = os.environ | own | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    return process, f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb?token=T&reset"


def opened(address: str, server: subprocess.Popen, seconds: float) -> None:
    "Wait until the server answers. Raises RuntimeError when it ends or stays silent."
    port, end = int(address.split(":")[2].split("/")[0]), time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with code {server.returncode}")
        with socket.socket() as s:
            s.settimeout(1)
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not answer within {seconds:.0f} s")


def watched(context, faults: list[str]):
    "A new page; what it logs as an error, and any address that it asks for, is a fault."

    def asked(request):
        if not request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "ws://127.0.0.1", "about:")):
            faults.append(f"request to {request.url}")

    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("request", asked)
    page.on("pageerror", lambda error: faults.append(f"error in the page: {error}"))
    page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" and "favicon" not in m.text else None)
    return page


SEEN = "(root) => root.querySelector('.vx-picture').toDataURL('image/jpeg', 0.3)"


class Shown:
    "An explorer on a page: what is done to it has to change its picture."

    def __init__(self, root, what: str):
        self.root, self.what = root, what
        root.locator(".vx-picture").wait_for()
        root.page.wait_for_timeout(600)

    def picture(self) -> str:
        return self.root.evaluate(SEEN)

    def changes(self, what: str, act) -> None:
        before = self.picture()
        act()
        for _ in range(100):
            self.root.page.wait_for_timeout(100)
            if self.picture() != before:
                return print(f"  {self.what}: {what}", flush=True)
        raise AssertionError(f"{self.what}: the picture did not change: {what}")

    def click(self, x: float, y: float) -> None:
        "A place of the frame, as shares of it."
        box = self.root.locator(".vx-picture").bounding_box()
        aspect = 2 if self.what != "13 tiles" else 4 / 3
        width = min(box["width"], aspect * box["height"])
        left, top = box["x"] + (box["width"] - width) / 2, box["y"] + (box["height"] - width / aspect) / 2
        self.root.page.mouse.click(left + x * width, top + y * width / aspect)

    def slide(self, name: str, value: float) -> None:
        self.root.locator(f"input[name={name}]").fill(str(value))

    def choose(self, name: str, value: str) -> None:
        self.root.locator(f"select[name={name}]").select_option(value)

    def says(self, text: str) -> None:
        self.root.get_by_text(text).first.wait_for()


TIMED = """async (root) => {
  const slider = root.querySelector('input[name=threshold]'), took = []
  const painted = () => root.dataset.painted
  for (let i = 0; i < 30; i++) {
    const before = painted(), start = performance.now()
    slider.value = 0.9 * ((i * 7) % 30) / 30
    slider.dispatchEvent(new Event('input', { bubbles: true }))
    while (painted() === before) await new Promise((done) => requestAnimationFrame(done))
    root.querySelector('.vx-picture').getContext('2d').getImageData(0, 0, 1, 1)
    took.push(performance.now() - start)
  }
  return took.sort((a, b) => a - b)
}"""


def everything(shown: Shown) -> None:
    "All that is a matter of looking, on a page with a scene, words and objects."
    name = shown.root.locator(".vx-name")
    shown.changes("threshold", lambda: shown.slide("threshold", 0.3))
    shown.changes("opacity", lambda: shown.slide("opacity", 0.5))
    shown.changes("sign", lambda: shown.choose("sign", "both"))
    shown.changes("colours", lambda: shown.choose("palette2", "orange–purple"))
    shown.changes("smooth", lambda: shown.root.locator("input[name=smooth]").check())
    shown.changes("scale", lambda: shown.choose("scale", "frame"))
    shown.changes("patch", lambda: shown.click(0.72, 0.3))
    shown.says("together")
    shown.changes("patch again", lambda: shown.click(0.72, 0.3))
    shown.choose("kind", "token")
    shown.changes("token", lambda: shown.click(0.9, 0.4))
    shown.changes("object", lambda: shown.root.get_by_role("cell", name="car ahead").click())
    shown.changes("word", lambda: shown.root.get_by_role("button", name="brake", exact=True).click())
    assert shown.root.locator("button.vx-chosen").inner_text() == "brake"
    shown.changes("beside", lambda: shown.choose("beside", "q0"))
    shown.changes("divider", lambda: shown.slide("split", 0.2))
    shown.changes("frame", lambda: shown.slide("frame", 3))
    shown.root.locator(".vx-picture").focus()
    shown.changes("arrow", lambda: shown.root.page.keyboard.press("ArrowRight"))
    shown.changes("first frame", lambda: shown.slide("frame", 0))  # playing ends at the last one
    shown.root.locator(".vx-picture").focus()
    before = name.inner_text()
    shown.changes("play", lambda: shown.root.page.keyboard.press(" "))
    shown.root.page.wait_for_timeout(600)
    assert name.inner_text() > before, (name.inner_text(), before)
    shown.root.page.keyboard.press(" ")
    stopped = name.inner_text()
    shown.root.page.wait_for_timeout(700)
    assert name.inner_text() == stopped, (name.inner_text(), stopped)
    assert shown.root.get_by_text("<b>car</b>").count() and not shown.root.locator("b", has_text="car").count()
    assert not shown.root.get_by_text("im_end").count()


def saved(shown: Shown, folder: Path) -> None:
    "The picture as PNG at print size and as SVG, the state as a link and as a line of Python."
    from PIL import Image
    from playwright.sync_api import expect

    for name in ("PNG", "SVG"):
        with shown.root.page.expect_download() as found:
            shown.root.get_by_role("button", name=name, exact=True).click()
        path = folder / f"saved.{name.lower()}"
        found.value.save_as(path)
        if name == "PNG":
            with Image.open(path) as picture:
                assert picture.width == 3000 and picture.convert("L").getextrema()[0] < 60, picture.size
        else:
            assert path.read_text().count("<rect ") > 10 and "<script" not in path.read_text()
    told = shown.root.locator(".vx-told")
    shown.root.get_by_role("button", name="link", exact=True).click()
    expect(told).to_have_value(re.compile("#frame="))
    shown.root.get_by_role("button", name="Python", exact=True).click()
    expect(told).to_have_value(re.compile(r'^explore\("scene", frame="00'))
    print(f"  {shown.what}: PNG, SVG, link, Python", flush=True)


def nothing(chromium, folder: Path) -> None:
    "A bundle without frames is a sentence."
    from experiment.report.bundle import Bundle, finished
    from experiment.report.html import write_html

    page = chromium.new_page()
    page.goto(write_html(folder / "nothing.html", finished(Bundle("nothing"))).as_uri())
    page.get_by_text("there are no frames to show").wait_for()
    page.close()


def from_disk(chromium, folder: Path, shots: Path, timed: bool) -> None:
    "The page as a file: every control, the time of a slider, sizes, light and dark. Raises AssertionError."
    faults: list[str] = []
    for tiles in (2, 13):
        path = folder / f"scene{tiles}.html"
        scene(path, 24 if tiles == 2 else 6, tiles)
        context = chromium.new_context(viewport=dict(width=1920, height=1080), offline=True)
        page = watched(context, faults)
        page.goto(path.as_uri())
        shown = Shown(page.locator("#explorer"), f"{tiles} tiles")
        took = shown.root.evaluate(TIMED)
        said = f"slider to picture {took[15]:.1f} ms in the median, {took[-2]:.1f} ms at most (one of 30 left out)"
        print(f"  {tiles} tiles at 1920×1080: {said}")
        assert not timed or took[15] <= LIMIT_MS, took
        everything(shown)
        saved(shown, folder)
        page.reload()  # the address has the state
        Shown(page.locator("#explorer"), f"{tiles} tiles")
        assert page.locator("select[name=beside]").input_value() == "q0"
        page.screenshot(path=str(shots / f"disk_{tiles}.png"))
        context.close()
    nothing(chromium, folder)
    for width, height in SIZES:
        for theme in ("light", "dark"):
            context = chromium.new_context(viewport=dict(width=width, height=height), color_scheme=theme)
            page = watched(context, faults)
            page.goto((folder / "scene2.html").as_uri())
            Shown(page.locator("#explorer"), theme)
            page.screenshot(path=str(shots / f"disk_{width}_{theme}.png"))
            inner = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
            assert inner == [width, height], f"scroll bars at {width}×{height}: {inner}"
            context.close()
    assert not faults, faults


def in_lab(chromium, folder: Path, address: str, shots: Path) -> None:
    "The same in JupyterLab, live and recorded; saved, opened again without a kernel, trusted and not. Raises AssertionError."
    faults: list[str] = []
    page = watched(chromium.new_context(viewport=dict(width=1500, height=1700)), [])
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    live = Shown(page.locator(".vx-widget"), "live")
    live.root.scroll_into_view_if_needed()
    live.changes("threshold", lambda: live.slide("threshold", 0.3))
    live.changes("patch", lambda: live.click(0.55, 0.6))
    live.root.locator("input[name=target]").fill("lateral")
    start = time.monotonic()
    live.changes("another target", lambda: live.root.get_by_role("button", name="ask the model").click())
    live.says("lateral =")
    print(f"  live: answer after {time.monotonic() - start:.1f} s")
    live.changes("word", lambda: live.root.get_by_role("button", name="brake", exact=True).click())
    live.says("index:0 =")
    live.changes("frame", lambda: live.slide("frame", 3))
    page.screenshot(path=str(shots / "lab_live.png"))
    recorded(page, shots, "recorded")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(1500)
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.goto(address, wait_until="domcontentloaded")
    recorded(page, shots, "without a kernel")
    saved = folder / "explorer.ipynb"
    (folder / "strange.ipynb").write_text(saved.read_text().replace("position:relative;", "position: relative;"))
    page.goto(address.replace("explorer.ipynb", "strange.ipynb"), wait_until="domcontentloaded")
    still = page.locator(".jp-OutputArea-output img").first
    still.wait_for()
    assert still.evaluate("image => image.naturalWidth") > 100 and not page.locator("iframe[srcdoc]").count()
    page.screenshot(path=str(shots / "lab_untrusted.png"))
    print("  not trusted: the still picture", flush=True)
    assert not faults, faults


def recorded(page, shots: Path, what: str) -> None:
    "The page in its frame of a notebook's output."
    page.locator("iframe[srcdoc]").first.scroll_into_view_if_needed()
    frame = page.frame_locator("iframe[srcdoc]").first
    shown = Shown(frame.locator("#explorer"), what)
    shown.changes("threshold", lambda: shown.slide("threshold", 0.6))
    shown.changes("patch", lambda: shown.root.locator(".vx-picture").click(position=dict(x=300, y=200)))
    page.screenshot(path=str(shots / f"lab_{what.replace(' ', '_')}.png"))


def exported(chromium, folder: Path, shots: Path) -> None:
    "nbconvert's HTML of the saved notebook: the recorded page lives there, and prints."
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output", "export", str(folder / "explorer.ipynb")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    page = chromium.new_context(viewport=dict(width=1300, height=1700)).new_page()
    page.goto((folder / "export.html").as_uri(), wait_until="domcontentloaded")
    recorded(page, shots, "nbconvert")
    assert len(page.pdf()) > 20_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=Path, default=ROOT / "runs" / "browser", help="folder for screenshots")
    parser.add_argument("--timed", action="store_true", help=f"fail, too, when a slider takes more than {LIMIT_MS} ms")
    parser.add_argument("--limit", type=int, default=280, help="seconds until everything is stopped")
    args = parser.parse_args()
    if why := missing():
        print(f"browser test not run: {why}")
        return SKIPPED
    from playwright.sync_api import sync_playwright

    def stop(*_):
        raise TimeoutError(f"no end after {args.limit} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(args.limit)
    args.shots.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        folder, server = Path(tmp), None
        try:
            with sync_playwright() as p:
                chromium = p.chromium.launch(executable_path=browser(), args=FLAGS)
                try:
                    from_disk(chromium, folder, args.shots, args.timed)
                    stage(folder)
                    server, address = serve(folder)
                    opened(address, server, 40)
                    in_lab(chromium, folder, address, args.shots)
                    exported(chromium, folder, args.shots)
                except BaseException:
                    for context in chromium.contexts:
                        for i, page in enumerate(context.pages):
                            page.screenshot(path=str(args.shots / f"failed{i}.png"), timeout=5_000)
                    raise
                finally:
                    chromium.close()
        except BaseException as error:
            if server:
                print((folder / "server.log").read_text()[-2000:], file=sys.stderr)
            print(f"browser test failed: {type(error).__name__} {error}", file=sys.stderr)
            return 1
        finally:
            signal.alarm(0)
            if server:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
    print(f"browser test passed; screenshots in {args.shots}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
