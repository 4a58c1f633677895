"""Every page, in both languages and both themes; and what happens to a person when things go wrong."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, expect

from nano.fleet.host import wait_until
from nano.fleet.network_namespace import own_network
from tests.support.axe import findings
from tests.support.browser import PASSWORD, URL, Person, chromium, person
from tests.support.fleets import fleet, rest_of, told, up_until_told
from tests.support.path_proxy import below
from tests.support.words import Words

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own needs root")

EN = Words("en")


@dataclass
class Cloud:
    """A simulated zone whose portal has been set up by `admin`."""

    root: Path
    browser: Browser
    fleet: int
    """The pid of who starts again what dies."""

    @contextmanager
    def dead(self, service: str) -> Iterator[None]:
        """Its process is killed at once, and the fleet starts it again only when the block is left.

        A fast machine would have it back before a page shows that it is gone.
        """
        os.kill(self.fleet, signal.SIGSTOP)
        try:
            os.kill(int((self.root / "run" / f"{service}.pid").read_text()), signal.SIGKILL)
            yield
        finally:
            os.kill(self.fleet, signal.SIGCONT)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("fleet")
    with own_network():
        try:
            with up_until_told(root, "--simulated") as (up, said), chromium() as browser:
                with person(browser) as first:
                    first.first_start(told(said, "first").split()[2])
                yield Cloud(root, browser, up.pid)
                up.send_signal(signal.SIGINT)
                rest_of(up)
        finally:
            subprocess.run(fleet("--root", str(root), "down"), capture_output=True, check=False)


@pytest.fixture
def admin(cloud: Cloud) -> Iterator[Person]:
    """Logged in, with the overview open."""
    with person(cloud.browser) as somebody:
        somebody.page.goto(URL)
        somebody.log_in()
        expect(somebody.page.get_by_role("heading", name="Overview")).to_be_visible()
        yield somebody


# ------------------------------------------------------------------ each page


@pytest.mark.parametrize(
    ("language", "dark", "width"),
    [("en", False, 1440), ("en", True, 390), ("zh", True, 1440), ("zh", False, 390)],
)
def test_each_page_is_accessible_and_keeps_its_policy(
    cloud: Cloud, language: str, dark: bool, width: int
) -> None:
    words = Words(language)
    look = f"{language}-{'dark' if dark else 'light'}-{width}"
    with person(
        cloud.browser, locale=words.locale, dark=dark, width=width, height=900 if width > 800 else 844
    ) as somebody:
        page = somebody.page

        def judged(name: str) -> None:
            somebody.picture(f"{look}-{name}")
            assert findings(page) == [], name

        page.goto(URL)
        expect(page.get_by_role("heading", name=words("login.title"))).to_be_visible()
        judged("login")
        page.get_by_label(words("login.user")).fill("admin")
        page.get_by_label(words("login.password"), exact=True).fill(PASSWORD)
        page.get_by_role("button", name=words("login.submit")).click()
        expect(page.get_by_role("heading", name=words("nav.overview"))).to_be_visible()
        expect(page.get_by_text(words("overview.memory"), exact=True)).to_be_visible()
        judged("overview")
        page.goto(f"{URL}#/instances")
        expect(page.get_by_role("link", name="first", exact=True)).to_be_visible()
        judged("instances")
        page.get_by_role("button", name=words("create.open")).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        judged("create")
        page.get_by_role("button", name=words("cancel"), exact=True).click()
        page.get_by_role("link", name="first", exact=True).click()
        expect(page.get_by_text(words("instance.mac"))).to_be_visible()
        judged("instance")
        page.get_by_role("tab", name=words("console.title")).click()
        expect(page.get_by_text(words("console.is.connected"), exact=True)).to_be_visible()
        judged("console")
        assert somebody.complaints == []


# ------------------------------------------------------------------ what can go wrong


def test_a_wrong_password_is_said_and_many_are_slowed_down(cloud: Cloud) -> None:
    with person(cloud.browser) as somebody:
        page = somebody.page
        page.goto(URL)
        for _ in range(5):
            somebody.log_in("nobody", "Wrong1horse")
            expect(page.get_by_text(EN("login.wrong"))).to_be_visible()
        somebody.log_in("nobody", "Wrong1horse")
        expect(page.get_by_text("Too many tries")).to_be_visible()
        somebody.picture("limited")


def test_a_session_that_ended_leads_to_the_login_and_back_to_where_one_was(
    cloud: Cloud, admin: Person
) -> None:
    page = admin.page
    page.get_by_role("link", name=EN("nav.instances")).first.click()
    page.get_by_role("link", name="first", exact=True).click()
    expect(page.get_by_text(EN("instance.mac"))).to_be_visible()
    where = page.url
    assert admin.context.request.delete(f"{URL}api/v1/session/").ok  # it ends at the server
    expect(page.get_by_text(EN("login.ended"))).to_be_visible()
    admin.picture("ended")
    admin.log_in()
    expect(page.get_by_text(EN("instance.mac"))).to_be_visible()
    assert page.url == where
    assert admin.complaints == []


def test_a_portal_that_dies_comes_back_and_nobody_is_logged_out(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    page.get_by_role("link", name=EN("nav.instances")).first.click()
    expect(page.get_by_role("link", name="first", exact=True)).to_be_visible()
    expect(page.get_by_text(EN("link.live"), exact=True)).to_be_visible()
    with cloud.dead("portal"):
        expect(page.get_by_text(EN("banner.portalLost"))).to_be_visible()
    expect(page.get_by_text(EN("banner.portalLost"))).to_be_hidden()
    page.get_by_role("link", name="first", exact=True).click()
    expect(page.get_by_text(EN("instance.mac"))).to_be_visible()


def test_a_lost_gateway_is_said_while_it_is_lost(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    expect(page.get_by_text(EN("link.live"), exact=True)).to_be_visible()
    with cloud.dead("gateway"):
        expect(page.get_by_text(EN("banner.gatewayLost"))).to_be_visible()
        admin.picture("gateway-lost")
    expect(page.get_by_text(EN("banner.gatewayLost"))).to_be_hidden()
    expect(page.get_by_text(EN("link.live"), exact=True)).to_be_visible()
    page.get_by_role("link", name=EN("nav.instances")).first.click()
    expect(page.get_by_role("link", name="first", exact=True)).to_be_visible()


def test_a_console_that_breaks_comes_back_by_itself(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    page.goto(f"{URL}#/instances")
    page.get_by_role("button", name=EN("verbOf.console", name="first")).click()
    expect(page.get_by_text(EN("console.is.connected"), exact=True)).to_be_visible()
    with cloud.dead("cell"):
        expect(page.get_by_text(EN("console.is.connected"), exact=True)).to_be_hidden()
    expect(page.get_by_text(EN("console.is.connected"), exact=True)).to_be_visible(timeout=90_000)


# ------------------------------------------------------------------ two tabs


def test_tabs_come_and_go_together(cloud: Cloud, admin: Person) -> None:
    page, other = admin.page, admin.context.new_page()
    other.goto(URL)
    expect(other.get_by_role("heading", name="Overview")).to_be_visible()
    page.get_by_role("button", name=EN("user.menu", user="admin")).click()
    page.get_by_role("menuitem", name=EN("user.logOut")).click()
    expect(other.get_by_text(EN("login.loggedOut"))).to_be_visible()
    admin.log_in()
    expect(other.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_session_of_another_tab_carries_on_unseen(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    expect(page.get_by_text(EN("link.live"), exact=True)).to_be_visible()
    old = admin.context.cookies()[0]["value"]
    page.evaluate(
        """() => {
            window.shown = [];
            const look = () => window.shown.push(document.querySelector('.zone')?.innerText ?? 'door');
            const all = { subtree: true, childList: true, characterData: true };
            new MutationObserver(look).observe(document.body, all);
        }"""
    )
    again = {"user": "admin", "password": PASSWORD}
    assert admin.context.request.post(f"{URL}api/v1/sessions/", data=again).ok
    ended = Request(f"{URL}api/v1/session/", method="DELETE", headers={"Nano-Session": old})
    with page.expect_websocket(lambda socket: socket.url.endswith("/live/")), urlopen(ended) as answer:
        assert answer.status == HTTPStatus.OK
    page.get_by_role("link", name=EN("nav.instances")).first.click()
    expect(page.get_by_role("link", name="first", exact=True)).to_be_visible()
    assert [text for text in page.evaluate("window.shown") if EN("link.live") not in text] == []


def test_a_door_goes_in_when_it_is_looked_at_and_there_is_a_session(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    assert admin.context.request.delete(f"{URL}api/v1/session/").ok
    expect(page.get_by_text(EN("login.ended"))).to_be_visible()
    again = {"user": "admin", "password": PASSWORD}
    assert admin.context.request.post(f"{URL}api/v1/sessions/", data=again).ok
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


# ------------------------------------------------------------------ who may less


def test_who_may_see_instances_only_is_led_to_them(cloud: Cloud, admin: Person) -> None:
    api = f"{URL}api/v1"
    request = admin.context.request
    assert request.post(f"{api}/roles/tenant", data={"menu": ["instance"]}).ok
    assert request.post(f"{api}/user_groups/tenants", data={"display": "", "role": ["tenant"]}).ok
    assert request.post(f"{api}/users/bob", data={"password": PASSWORD}).ok
    with person(cloud.browser) as bob:
        bob.page.goto(URL)
        bob.log_in("bob")
        expect(bob.page.get_by_text("User bob is in no group yet")).to_be_visible()
        assert request.post(f"{api}/user_groups/tenants/members/bob").ok
        bob.log_in("bob")
        expect(bob.page.get_by_role("heading", name=EN("nav.instances"))).to_be_visible()
        expect(bob.page.get_by_text(EN("next.noInstance"))).to_be_visible()
        expect(bob.page.get_by_role("link", name=EN("nav.overview"), exact=True)).to_be_hidden()
        bob.page.get_by_role("button", name=EN("create.first")).click()
        expect(bob.page.get_by_text(EN("create.noImageAsk"))).to_be_visible()
        # Who only watches has nothing to press; every image is an operator's to clone.
        assert request.put(f"{api}/roles/tenant", data={"menu": ["compute_pool"]}).ok
        bob.page.reload()
        expect(bob.page.get_by_role("link", name="first", exact=True)).to_be_visible()
        expect(bob.page.get_by_role("button", name=EN("create.open"))).to_be_hidden()
        expect(bob.page.get_by_role("button", name=EN("verbOf.stop", name="first"))).to_be_hidden()
        assert request.put(f"{api}/roles/tenant", data={"menu": ["compute_pool", "instance"]}).ok
        bob.page.reload()  # the address still asks for the form
        expect(bob.page.get_by_label(EN("create.image"))).to_contain_text("admin.")
        assert request.put(f"{api}/roles/tenant", data={"menu": []}).ok
        bob.page.reload()
        expect(bob.page.get_by_role("heading", name=EN("closed.title"))).to_be_visible()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_on_the_overview_is_cut(cloud: Cloud, admin: Person, language: str) -> None:
    page = admin.page
    page.evaluate("language => localStorage.setItem('nano.language', language)", language)
    page.reload()
    expect(page.get_by_role("table", name=Words(language)("overview.cells"))).to_be_visible()
    for width in range(1024, 1921, 64):
        page.set_viewport_size({"width": width, "height": 900})
        cut = page.eval_on_selector_all(
            ".panel", "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText)"
        )
        assert (width, cut) == (width, [])


# ------------------------------------------------------------------ what one does


def test_an_instance_from_creation_to_deletion(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    page.goto(f"{URL}#/instances")
    page.keyboard.press("n")
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_label(EN("instance.name"), exact=True)
    name.fill("not a name")
    dialog.get_by_role("button", name=EN("create.submit"), exact=True).click()
    expect(dialog.get_by_text(EN("create.nameRule"))).to_be_visible()
    name.fill("web")
    dialog.get_by_role("button", name=EN("create.submit"), exact=True).click()
    line = page.get_by_role("row").filter(has=page.get_by_role("link", name="web", exact=True))
    expect(line).to_contain_text(EN("state.running"))
    line.get_by_role("button", name=EN("verbOf.stop", name="web")).click()
    page.get_by_role("alertdialog").get_by_role("button", name=EN("verb.powerOff")).click()
    expect(line).to_contain_text(EN("state.stopped"))
    line.get_by_role("button", name=EN("verbOf.more", name="web")).click()
    page.get_by_role("menuitem", name=EN("verb.deleteAsk")).click()
    confirm = page.get_by_role("alertdialog")
    confirm.get_by_role("textbox").fill("web")
    confirm.get_by_role("button", name=EN("verb.delete"), exact=True).click()
    expect(line).to_be_hidden()
    assert admin.complaints == []


def test_text_is_pasted_into_a_console_key_by_key(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    page.goto(f"{URL}#/instances")
    page.get_by_role("button", name=EN("verbOf.console", name="first")).click()
    expect(page.get_by_text(EN("console.is.connected"), exact=True)).to_be_visible()
    canvas = page.locator("canvas").first
    before = canvas.screenshot()
    page.get_by_role("button", name=EN("console.paste")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(EN("paste.text")).fill("Hello, World 42")
    dialog.get_by_role("button", name=EN("paste.type_other", count=15)).click()
    expect(dialog).to_be_hidden()
    assert wait_until(lambda: canvas.screenshot() != before, 10)
    expect(canvas).to_be_focused()


def test_the_keyboard_comes_back_into_the_screen(cloud: Cloud, admin: Person) -> None:
    page = admin.page
    admin.open_console("first")
    canvas = page.locator("canvas").first
    expect(canvas).to_be_focused()
    for is_chosen in (True, False):
        page.get_by_role("button", name=EN("console.keys"), exact=True).click()
        expect(page.get_by_role("menu")).to_be_visible()
        if is_chosen:
            page.get_by_role("menuitem", name="Ctrl+C").click()
        else:
            page.keyboard.press("Escape")
        expect(canvas).to_be_focused()
    for name in ("1:1", EN("console.fit"), EN("console.full"), EN("console.leaveFull")):
        page.get_by_role("button", name=name, exact=True).click()
        expect(canvas).to_be_focused()
    for name in (EN("console.paste"), EN("verb.stop")):
        page.get_by_role("button", name=name, exact=True).click()
        expect(canvas).not_to_be_focused()
        page.keyboard.press("Escape")
        expect(canvas).to_be_focused()
    # By the keyboard alone one is taken back to where one was, unless something was typed.
    page.keyboard.press("Control+Alt+Shift")
    expect(page.get_by_role("button", name=EN("console.keys"), exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_label(EN("paste.text"), exact=True).fill("x")
    page.keyboard.press("Control+Enter")
    expect(canvas).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_portal_works_below_a_path(cloud: Cloud) -> None:
    with below("/clouds/mine/", 5870) as address, person(cloud.browser) as somebody:
        page = somebody.page
        page.goto(address)
        somebody.log_in()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        expect(page.get_by_text(EN("link.live"), exact=True)).to_be_visible()
        page.get_by_role("link", name=EN("nav.instances")).first.click()
        page.get_by_role("button", name=EN("verbOf.console", name="first")).click()
        expect(page.get_by_text(EN("console.is.connected"), exact=True)).to_be_visible()
        assert somebody.complaints == []


def test_nothing_comes_from_anywhere_else(cloud: Cloud) -> None:
    with person(cloud.browser) as somebody:
        asked: list[str] = []
        somebody.page.on("request", lambda request: asked.append(request.url))
        somebody.page.goto(URL)
        somebody.log_in()
        expect(somebody.page.get_by_role("heading", name="Overview")).to_be_visible()
        assert [url for url in asked if not url.startswith((URL, "data:", "blob:"))] == []
        cookies = somebody.context.cookies()
        assert [(cookie["name"], cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [
            ("nano-session", True, "Strict")
        ]
        assert somebody.page.evaluate("document.cookie") == ""
        assert PASSWORD not in somebody.page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
