# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's chromium, driven by selenium, for tests of the control page; both come from bin/test's set-up."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60
"""Seconds that anything on a page may take."""
TABS = 60
"""How often Tab may be pressed to get somewhere."""


@contextlib.contextmanager
def browser(folder: Path, javascript: bool = True, width: int = 900, height: int = 1200) -> Iterator["Browser"]:
    """A browser with a fresh profile in `folder`; narrower than 500 points it is a phone's."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    options.accept_insecure_certs = True  # an instance's authority is its own
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder}",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    if not _has_sandbox():
        options.add_argument("--no-sandbox")
    if not javascript:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    if width < 500:
        metrics = {"width": width, "height": height, "pixelRatio": 1}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def _has_sandbox() -> bool:
    """Whether chromium can shut itself in here: root cannot, nor who may not make user namespaces."""
    allowed = subprocess.run(["unshare", "--user", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    return os.geteuid() != 0 and allowed


class Browser:
    """What a person does with a browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    @property
    def title(self) -> str:
        return self.driver.title

    @property
    def text(self) -> str:
        """All that can be read."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def wait_for(self, words: str) -> None:
        """Until the page has these words, by itself or after it has loaded another one."""
        self.wait_until(lambda: words in self.text, repr(words))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Until that is true, whatever a page that is being loaded says meanwhile."""
        try:
            WebDriverWait(self.driver, PATIENCE, 0.1, (WebDriverException,)).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"{what} does not come; there is:\n{self.text}") from None

    def script(self, text: str) -> object:
        return self.driver.execute_script(text)

    # ---- with a mouse, or a finger

    def click(self, words: str) -> None:
        """A link or button, by its words."""
        path = " | ".join(f"//{name}[normalize-space()='{words}']" for name in ("a", "button", "summary"))
        for attempt in reversed(range(3)):
            try:
                self.driver.find_element(By.XPATH, path).click()
                return
            except StaleElementReferenceException:  # the page was loaded anew between the two
                if not attempt:
                    raise

    def fill(self, label: str, text: str) -> None:
        """The field with this label."""
        element = self.driver.find_element(By.XPATH, f"//label[normalize-space()='{label}']")
        field = self.driver.find_element(By.ID, element.get_attribute("for") or "")
        field.clear()
        field.send_keys(text)

    # ---- with a keyboard

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, words: str) -> None:
        """Tab until what has the focus has these words, or the label does that belongs to it."""
        for _ in range(TABS):
            if words == self._name(self.focused):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"no {words!r} is reached by Tab; there is:\n{self.text}")

    def _name(self, element: WebElement) -> str:
        number = element.get_attribute("id")
        labels = self.driver.find_elements(By.CSS_SELECTOR, f"label[for='{number}']") if number else []
        return labels[0].text if labels else element.text
