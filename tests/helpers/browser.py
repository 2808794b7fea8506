"""Debian's Chromium, driven by Selenium, without a window and without its own network traffic."""

import contextlib
import json
import os
import shutil

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def programs():
    """The paths of the browser and its driver; skips the test where one is missing.

    With CI=true in the environment it fails instead: there nobody would notice.
    """
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if all(found):
        return found
    reason = "chromium and chromium-driver, of Debian, are not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def opened(folder):
    """Gives a `Browser` with a profile in `folder`."""
    from selenium import webdriver

    browser, driver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        chrome.get("about:blank")
        chrome.get_log("performance")  # of the page that a browser begins with
        yield Browser(chrome)
    finally:
        chrome.quit()


class Browser:
    """A browser with one page."""

    def __init__(self, chrome):
        self._chrome = chrome

    def open(self, path, width=1280, scheme="light", media=""):
        """Opens a file in a window of this width, with a color scheme, on a screen or on paper."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        emulated = {"media": media, "features": features}
        self._chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
        self._chrome.get(path.as_uri())

    def run(self, script, *arguments):
        """What a script returns."""
        return self._chrome.execute_script(script, *arguments)

    def find(self, selector):
        """The elements of a selector."""
        return self._chrome.find_elements("css selector", selector)

    def point_at(self, element):
        """Moves the pointer to the middle of an element."""
        from selenium.webdriver import ActionChains

        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        ActionChains(self._chrome).move_to_element(element).perform()

    def console(self):
        """The messages of the console since the last call."""
        return [entry["message"] for entry in self._chrome.get_log("browser")]

    def requests(self):
        """The addresses that were asked for since the last call."""
        entries = [
            json.loads(entry["message"])["message"] for entry in self._chrome.get_log("performance")
        ]
        return [
            entry["params"]["request"]["url"]
            for entry in entries
            if entry["method"] == "Network.requestWillBeSent"
        ]
