"""slixmpp's plugins for what people say of themselves: moods (XEP-0107), avatars (XEP-0084), bookmarks in both
forms (XEP-0402, XEP-0048) and what was displayed (XEP-0490), over its XEP-0060, XEP-0163 and XEP-0115.

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD ACCOUNT PASSWORD: alice publishes, bob is her friend. Prints a line
for each step and `done` at the end.
"""

import asyncio
import sys

from slixmpp import JID
from slixmpp.plugins.xep_0048.stanza import Bookmarks
from slixmpp.plugins.xep_0402 import stanza as native_bookmarks
from slixmpp.plugins.xep_0402.stanza import Conference
from talk import Talker, say

ROOM = "room@rooms.localhost"


def check(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")
    say(what)


class Person(Talker):
    """One account, with the plugins."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        for plugin in ("xep_0030", "xep_0060", "xep_0115", "xep_0163", "xep_0107", "xep_0084", "xep_0048"):
            self.register_plugin(plugin)
        self.register_plugin("xep_0490")
        self.moods = asyncio.Queue()
        self.avatars = asyncio.Queue()
        self.add_event_handler("user_mood_publish", self.on_mood)
        self.add_event_handler("avatar_metadata_publish", self.on_avatar)

    def on_message(self, message):
        pass

    def on_mood(self, message):
        self.moods.put_nowait((message["from"].bare, message["pubsub_event"]["items"]["item"]["mood"]["value"]))

    def on_avatar(self, message):
        self.avatars.put_nowait((message["from"].bare, message["pubsub_event"]["items"]["item"]["id"]))


async def follow(alice, bob):
    for person in (alice, bob):
        await person.live.wait()
    own = alice.boundjid.bare
    alice.send_presence_subscription(bob.boundjid.bare)
    bob.send_presence_subscription(own)
    await alice.plugin["xep_0107"].publish_mood("happy")
    check(await bob.moods.get(), (own, "happy"), "a friend hears the mood")
    check(await alice.moods.get(), (own, "happy"), "and so does she")
    avatar = alice.plugin["xep_0084"]
    data = b"\x89PNG\r\n\x1a\nno picture at all"
    number = avatar.generate_id(data)
    await avatar.publish_avatar(data)
    await avatar.publish_avatar_metadata([{"id": number, "type": "image/png", "bytes": len(data)}])
    check(await bob.avatars.get(), (own, number), "a friend hears of the avatar")
    item = await bob.plugin["xep_0084"].retrieve_avatar(JID(own), number)
    found = item["pubsub"]["items"]["item"]["avatar_data"]["value"]
    check(found, data, "and reads it")
    conference = Conference()
    conference["name"], conference["autojoin"], conference["nick"] = "Room", True, "al"
    await alice.plugin["xep_0060"].publish(JID(own), "urn:xmpp:bookmarks:1", id=ROOM, payload=conference)
    answer = await alice.plugin["xep_0048"].get_bookmarks(method="xep_0049")
    rooms = [(str(c["jid"]), c["name"], c["nick"]) for c in answer["private"]["bookmarks"]["conferences"]]
    check(rooms, [(ROOM, "Room", "al")], "an old client finds the bookmark")
    bookmarks = Bookmarks()
    bookmarks.add_conference(ROOM, "al", autojoin=True, name="Renamed")
    await alice.plugin["xep_0048"].set_bookmarks(bookmarks, method="xep_0049")
    answer = await alice.plugin["xep_0060"].get_items(JID(own), "urn:xmpp:bookmarks:1")
    items = answer["pubsub"]["items"]
    names = [(item["id"], item["conference"]["name"]) for item in items]
    check(names, [(ROOM, "Renamed")], "a new client finds what the old one wrote")
    await alice.plugin["xep_0490"].flag_chat(JID("bob@localhost"), "1234")
    answer = await alice.plugin["xep_0490"].catch_up()
    chats = [item["id"] for item in answer["pubsub"]["items"]]
    check(chats, ["bob@localhost"], "what was displayed is known")
    info = (await bob.plugin["xep_0030"].get_info(jid=own))["disco_info"]
    kinds = {(identity[0], identity[1]) for identity in info["identities"]}
    check(kinds, {("account", "registered"), ("pubsub", "pep")}, "the account says what it is")
    for person in (alice, bob):
        person.ended = True
        await person.disconnect()
    say("done")


async def main():
    host, port, certificate, *accounts = sys.argv[1:]
    # The plugin itself depends on itself and cannot be registered.
    native_bookmarks.register_plugin()
    people = [
        Person((host, int(port)), certificate, account, password)
        for account, password in zip(accounts[::2], accounts[1::2])
    ]
    for person in people:
        person.begin()
    await asyncio.wait_for(follow(*people), 60)


if __name__ == "__main__":
    asyncio.run(main())
