"""The explorer in a real browser: JupyterLab opens its notebook, runs it, a slider moves, a patch, a token and a word are clicked, and the picture changes each time."""

import argparse
import json
import os
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
PICTURE = "img.widget-image"


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


def stage(folder: Path) -> Path:
    "A folder like the repository's, with the chapter up to the cell that shows the explorer: the server may write what it likes."
    (folder / "nbs" / "12_explorer").mkdir(parents=True)
    (folder / "experiment").symlink_to(ROOT / "experiment")
    nb = json.loads((NBS / "12_explorer/03_explorer.ipynb").read_text(encoding="utf-8"))
    shows = next(i for i, cell in enumerate(nb["cells"]) if "".join(cell["source"]).startswith("e = explore("))
    nb["cells"] = nb["cells"][: shows + 1]
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    path = folder / "nbs" / "12_explorer/03_explorer.ipynb"
    path.write_text(json.dumps(nb), encoding="utf-8")
    return path


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
    return process, f"http://127.0.0.1:{port}/lab/tree/nbs/12_explorer/03_explorer.ipynb?token=T&reset"


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


def look(page, address: str, shots: Path) -> None:
    "The test itself. Raises a playwright error, or AssertionError, at the first thing that does not happen."
    start = time.monotonic()

    def done(what: str) -> None:
        page.screenshot(path=str(shots / f"{what.replace(' ', '_')}.png"))
        print(f"  {time.monotonic() - start:5.1f} s  {what}", flush=True)

    def changes(what: str, act) -> None:
        before = page.locator(PICTURE).get_attribute("src")
        page.wait_for_timeout(300)  # nothing earlier is on its way
        assert page.locator(PICTURE).get_attribute("src") == before, f"the picture changed by itself before: {what}"
        act()
        page.wait_for_function(
            "([q, before]) => { const i = document.querySelector(q); return i && i.src !== before && i.complete && i.naturalWidth > 0 }",
            arg=[PICTURE, before],
        )
        done(what)

    def click_picture(x: float, y: float) -> None:
        page.locator(PICTURE).scroll_into_view_if_needed()
        box = page.locator(PICTURE).bounding_box()
        page.mouse.click(box["x"] + x, box["y"] + y)

    def note(text: str) -> None:
        page.get_by_text(text).first.wait_for()

    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.wait_for_selector(PICTURE)
    page.locator(PICTURE).scroll_into_view_if_needed()
    page.wait_for_function("q => document.querySelector(q).naturalWidth === 840", arg=PICTURE)
    done("shown")

    slider = page.locator(".widget-hslider", has_text="threshold").locator(".noUi-handle")
    slider.focus()
    changes("slider moved", lambda: slider.press("ArrowRight"))
    changes(
        "patch clicked", lambda: click_picture(10 + 14.5 * 820 / 24, 24 + 2.5 * 410 / 12)
    )  # row 2, column 14 of 12 × 24 patches: tile 1, patch (2, 2)
    note("tile 1: patch (2, 2)")
    changes("token clicked", page.locator("button[title='token 8']").click)
    note("tile 0: token 8 at position")
    changes("word clicked", page.get_by_role("button", name="brake", exact=True).click)
    changes("tiles shown", page.get_by_role("button", name="tiles", exact=True).click)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=Path, default=ROOT / "runs" / "browser", help="folder for screenshots")
    parser.add_argument("--limit", type=int, default=150, help="seconds until everything is stopped")
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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        stage(Path(tmp))
        server, address = serve(Path(tmp))
        try:
            opened(address, server, 40)
            with sync_playwright() as p:
                chromium = p.chromium.launch(executable_path=browser(), args=FLAGS)
                page = chromium.new_page(viewport=dict(width=1500, height=1100))
                page.set_default_timeout(60_000)
                try:
                    look(page, address, args.shots)
                except BaseException:
                    page.screenshot(path=str(args.shots / "failed.png"), timeout=5_000)
                    raise
                finally:
                    chromium.close()
        except BaseException as error:
            print((Path(tmp) / "server.log").read_text()[-2000:], file=sys.stderr)
            print(f"browser test failed: {error}", file=sys.stderr)
            return 1
        finally:
            signal.alarm(0)
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    print(f"browser test passed; screenshots in {args.shots}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
