"""The web demo in a real browser: what a visitor sees and presses.

It needs chromium and its driver (Debian: ``apt-get install chromium chromium-driver``); with
``ISDA_REQUIRE_BROWSER=1`` in the environment their absence is a failure.
"""

import json
import os
import shutil
import time
import urllib.parse

import pytest

from tests.apis import tiny_models
from tests.apis.colour_detector import write_detector, write_scene
from tests.apis.tiny_video_models import VIDEO_MODEL, scene
from tests.apis.video_files import write_video

_PROGRAMS = ('chromium', 'chromedriver')
#: A machine may be busy with other things.
_PATIENCE_S = 120


def _give_up(reason):
    if os.environ.get('ISDA_REQUIRE_BROWSER') == '1':
        pytest.fail(f'ISDA_REQUIRE_BROWSER=1, but {reason}')
    pytest.skip(reason)


@pytest.fixture(scope='module')
def driver(tmp_path_factory):
    """Start a browser without a screen, whose downloads go to the folder `driver.downloads`."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        _give_up(f'no browser: {", ".join(missing)} not found (Debian: chromium, chromium-driver)')
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    downloads = tmp_path_factory.mktemp('downloads')
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for argument in (
        'headless=new',
        'no-sandbox',  # of a root user, as in containers
        'disable-gpu',
        'disable-dev-shm-usage',
        'disable-background-networking',
        'window-size=1280,1300',
        f'user-data-dir={tmp_path_factory.mktemp("profile")}',
    ):
        options.add_argument(f'--{argument}')
    options.add_experimental_option('prefs', {'download.default_directory': str(downloads)})
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    browser = webdriver.Chrome(options=options, service=service)
    browser.downloads = downloads
    browser.set_page_load_timeout(_PATIENCE_S)
    yield browser
    browser.quit()


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """Serve the detector of colours, a segmentor and a tracker."""
    pytest.importorskip('gradio', reason='gradio is not installed')
    from isda_suite.apis.web_demo.server import DemoSettings, open_demo

    folder = tmp_path_factory.mktemp('models')
    config, weights = write_detector(folder)
    segmentor = tiny_models.write_config(folder, tiny_models.SEGMENTOR, 'pixels.py')
    tracker = tiny_models.write_config(folder, VIDEO_MODEL, 'tracks.py')
    settings = DemoSettings(
        models=[str(config), str(segmentor), str(tracker)],
        weights=[str(weights), 'random', 'random'],
    )
    with open_demo(settings) as served:
        yield served


def _wait(condition):
    """Return what a condition gives as soon as that is true."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (NoSuchElementException, StaleElementReferenceException):
            pass
        time.sleep(0.2)
    raise AssertionError('the page did not get there')


class _Page:
    """What a visitor does and sees."""

    def __init__(self, driver):
        self._driver = driver

    def find(self, selector):
        return self._driver.find_element('css selector', selector)

    def source(self):
        """Return the address of the picture in view; the test waits for another one."""
        return self.find('#picture img').get_attribute('src')

    def sentence(self):
        return self.find('#sentence').text

    def files(self):
        """Return the text of the list of files; the page breaks names before their ending."""
        return self.find('#files').text.replace('\n', '')

    def is_shown(self, name):
        """Tell whether something is in view; what is hidden may not even be there."""
        found = self._driver.find_elements('css selector', f'#{name}')
        return any(element.is_displayed() for element in found)

    def choose(self, model):
        """Choose a model from the list."""
        self.find('#model input').click()
        _wait(lambda: self.find(f'li[data-value="{model}"], [aria-label="{model}"]')).click()

    def set_slider(self, name, value):
        """Move a slider as its handle does."""
        self._driver.execute_script(
            'const e = document.querySelector(`#${arguments[0]} input[type=range]`);'
            'e.value = arguments[1];'
            'for (const n of ["input", "change"]) e.dispatchEvent(new Event(n, {bubbles: true}));',
            name,
            value,
        )


def _requests(driver):
    """Return the addresses that the page asked for."""
    for entry in driver.get_log('performance'):
        message = json.loads(entry['message'])['message']
        if message['method'] == 'Network.requestWillBeSent':
            yield message['params']['request']['url']


def test_a_visitor_drops_an_image_sees_masks_and_takes_them_home(driver, address, tmp_path):
    page = _Page(driver)
    driver.get(address)
    _wait(lambda: page.find('#run'))
    upload = _wait(lambda: page.find('#input input[type=file]'))
    upload.send_keys(str(write_scene(tmp_path / 'things.png')))
    before = _wait(page.source)  # the picture as it was dropped

    page.find('#run').click()
    _wait(lambda: page.sentence() == 'toy: 2 instances of 320 x 240 pixels')
    found = _wait(lambda: page.source() != before and page.source())
    assert _wait(lambda: driver.execute_script(
        'return document.querySelector("#picture img").naturalWidth'
    )) >= 320  # fmt: skip
    assert {'red', 'green'} <= set(page.find('#table').text.split())

    _wait(lambda: 'things.zip' in page.files())
    page.set_slider('score_thr', 0.9)
    _wait(lambda: page.sentence() == 'toy: 1 instance of 320 x 240 pixels')
    _wait(lambda: page.source() != found)
    assert 'green' not in page.find('#table').text.split()

    _wait(lambda: 'things.zip' not in page.files())
    page.find('#write').click()
    link = _wait(lambda: page.find('#files a[href$="things.json"]'))
    driver.execute_script('arguments[0].click()', link)
    file = driver.downloads / 'things.json'
    _wait(file.is_file)
    content = json.loads(file.read_text())
    assert [one['area'] for one in content['annotations']] == [6000]

    asked = list(_requests(driver))
    hosts = {urllib.parse.urlparse(url).hostname for url in asked if url.startswith('http')}
    assert hosts == {'127.0.0.1'}, f'the page asked other machines: {hosts}'
    severe = [one for one in driver.get_log('browser') if one['level'] == 'SEVERE']
    assert not severe, severe


def test_only_what_the_chosen_model_knows_is_in_view(driver, address, tmp_path):
    page = _Page(driver)
    driver.get(address)
    _wait(lambda: page.is_shown('run'))

    def shown():
        names = ('score_thr', 'boxes', 'labels', 'example_images', 'example_videos', 'video_place')
        return {name for name in names if page.is_shown(name)}

    everywhere = {'score_thr', 'boxes', 'labels'}
    assert shown() == everywhere | {'example_images'}
    page.choose('pixels')
    _wait(lambda: shown() == {'labels', 'example_images'})
    page.choose('tracks')
    _wait(lambda: shown() == everywhere | {'example_videos'})
    upload = page.find('#input input[type=file]')
    upload.send_keys(str(write_video(tmp_path / 'clip.mp4', scene(4))))
    before = _wait(page.source)
    page.find('#run').click()
    _wait(lambda: page.source() != before and 'clip.zip' in page.files())
    assert shown() == everywhere | {'example_videos', 'video_place'}
    assert _wait(lambda: driver.execute_script(
        'return document.querySelector("#video video").videoWidth'
    )) > 0  # fmt: skip
    page.find('#input button[aria-label*="emove"], #input button[aria-label*="lear"]').click()
    _wait(lambda: not page.is_shown('video_place'))


def test_a_broken_image_is_told_on_the_page(driver, address, tmp_path):
    page = _Page(driver)
    driver.get(address)
    broken = tmp_path / 'broken<b>.png'
    broken.write_text('<html>no image</html>')
    _wait(lambda: page.find('#input input[type=file]')).send_keys(str(broken))
    said = _wait(lambda: page.find('.toast-body').text)
    assert 'it holds text, not an image' in said and '<html>no image' in said
