"""Monitor channels: one-time keys to an instance's screen. Pure, with the time handed in.

Documented in section 8 of the REST document: good once, for 15 s. Here a channel also belongs to the session
that asked for it; if that was shown by a cookie, the websocket must bring the same cookie.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from nano.model.errors import Exhausted, Forbidden, NotFound
from services.portal.sessions import Session

LIFE_S = 15.0
MOST = 1000
MOST_OF_ONE_USER = 32


@dataclass(frozen=True, slots=True)
class Channel:
    instance: str
    session: Session
    by_cookie: bool
    """A browser asked, which shows its cookie again; a client that sends the header cannot do that here."""
    ends_s: float


class Channels:
    """Channels by id."""

    def __init__(self, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self._new_id = new_id
        self._channels: dict[str, Channel] = {}

    def open(self, instance: str, session: Session, now_s: float, *, by_cookie: bool) -> str:
        """A new channel's id. Of a user with too many the oldest goes."""
        self._channels = {each: one for each, one in self._channels.items() if one.ends_s > now_s}
        own = [each for each, one in self._channels.items() if one.session.user == session.user]
        if len(own) >= MOST_OF_ONE_USER:
            del self._channels[own[0]]
        if len(self._channels) >= MOST:
            raise Exhausted(f"{MOST} consoles are being opened: try again in a moment", retry_after_s=1.0)
        channel_id = self._new_id()
        self._channels[channel_id] = Channel(instance, session, by_cookie, now_s + LIFE_S)
        return channel_id

    def take(self, channel_id: str, session: Session | None, now_s: float) -> Channel:
        """Consumes a channel, whatever comes of it.

        `NotFound` when there is none, or no more; `Forbidden` when it belongs to another session.
        """
        channel = self._channels.pop(channel_id, None)
        if channel is None or channel.ends_s <= now_s:
            raise NotFound("there is no such monitor channel: each is good once, for 15 s; ask for a new one")
        if session is None and channel.by_cookie:
            raise Forbidden("this monitor channel belongs to a session that was not shown: log in")
        if session is not None and session.key != channel.session.key:
            raise Forbidden("this monitor channel belongs to another session: ask for one of your own")
        return channel
