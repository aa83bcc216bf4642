"""slixmpp's plugins for archives (XEP-0313, XEP-0441) and stream management (XEP-0198), and a client that
is woken (XEP-0357), against nodes that die.

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD, three times the last two: alice writes, bob reads, and the
third plays the service that wakes bob. Commands come on standard input, one a line, and each is answered by
`done COMMAND` when all that it checks is as it must be; else the script ends with what was wrong.

- `fill N`: alice sends N more numbered messages, all of which bob gets, in order
- `archive`: bob reads all of them back, page by page, forwards and backwards, and what is said of the archive
- `prefs`: bob changes what is archived, and back again
- `push`: bob asks to be woken, if he has not yet, loses the connection, is woken by a message, and resumes
- `end`

slixmpp 1.17 has no plugin of its own for XEP-0357: the two elements of it are here, the rest is its plugins
for pubsub and forms.
"""

import asyncio
import sys

from slixmpp import JID
from slixmpp.plugins.xep_0004.stanza import Form
from slixmpp.plugins.xep_0060.stanza import Item
from slixmpp.stanza import Iq
from slixmpp.xmlstream import ElementBase, register_stanza_plugin
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath
from talk import Talker, say

PAGE = 10


class Enable(ElementBase):
    """Asks to be woken."""

    name = "enable"
    namespace = "urn:xmpp:push:0"
    plugin_attrib = "push_enable"
    interfaces = {"jid", "node"}


class Notification(ElementBase):
    """Wakes someone."""

    name = "notification"
    namespace = "urn:xmpp:push:0"
    plugin_attrib = "push_notification"


register_stanza_plugin(Iq, Enable)
register_stanza_plugin(Item, Notification)
register_stanza_plugin(Notification, Form)


def check(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


class Person(Talker):
    """One account, with the plugins."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        for plugin in ("xep_0004", "xep_0060", "xep_0313", "xep_0441"):
            self.register_plugin(plugin)
        self.failure = None
        self.got = asyncio.Queue()
        self.pushes = asyncio.Queue()
        self.sessions = []
        self.away = False
        self.add_event_handler("session_start", lambda _: self.sessions.append("new"))
        self.add_event_handler("session_resumed", lambda _: self.sessions.append("resumed"))
        path = StanzaPath("iq@type=set/pubsub/publish")
        self.register_handler(Callback("push", path, self.on_push))

    def fail(self, what):
        self.failure = self.failure or f"{self.name} {what}"

    def on_message(self, message):
        self.got.put_nowait(int(message["body"]))

    def on_push(self, iq):
        iq.reply().send()
        self.pushes.put_nowait(iq)

    def on_lost(self, event):
        # Comes back when it has been woken.
        self.ended, ended = self.ended or self.away, self.ended
        super().on_lost(event)
        self.ended = ended


class Play:
    """What alice, bob and the service do together."""

    def __init__(self, alice, bob, service):
        self.alice, self.bob, self.service = alice, bob, service
        self.sent = 0
        self.enabled = False

    def send(self):
        self.alice.send_message(mto=self.alice.peer, mbody=str(self.sent), mtype="chat")
        self.sent += 1

    async def fill(self, count):
        for number in range(self.sent, self.sent + int(count)):
            await self.alice.live.wait()
            self.send()
            check(await self.bob.got.get(), number, "bob got")

    async def archive(self):
        await self.bob.live.wait()
        mam = self.bob.plugin["xep_0313"]
        fields = await mam.get_fields()
        check({"with", "start", "end"} <= set(fields.get_fields()), True, "the form has its fields")
        pages, found = [], []
        async for page in mam.retrieve(iterator=True, rsm={"max": PAGE}):
            results = page["mam"]["results"]
            pages.append(len(results))
            found += results
        expected = [PAGE] * (self.sent // PAGE) + [self.sent % PAGE] * (self.sent % PAGE > 0)
        check(pages, expected, "pages")
        check(numbers(found), list(range(self.sent)), "the archive")
        found_by = {
            "with": mam.iterate(with_jid=JID(self.alice.boundjid.bare), rsm={"max": PAGE}),
            "reverse": mam.iterate(reverse=True, rsm={"max": PAGE}),
            "start": mam.iterate(start="2020-01-01T00:00:00Z", total=PAGE + 1),
        }
        results = {way: numbers([result async for result in by]) for way, by in found_by.items()}
        check(results["with"], list(range(self.sent)), "what was said with alice")
        check(results["reverse"], list(reversed(range(self.sent))), "the archive backwards")
        check(results["start"], list(range(min(self.sent, PAGE + 1))), "since then")
        about = (await mam.get_archive_metadata())["mam_metadata"]
        check(about["start"]["id"], found[0]["mam_result"]["id"], "the oldest")
        check(about["end"]["id"], found[-1]["mam_result"]["id"], "the newest")
        first = found[0]["mam_result"]["forwarded"]["delay"]["stamp"]
        check(about["start"]["timestamp"], first, "the time of the oldest")

    async def prefs(self):
        prefs = self.bob.plugin["xep_0441"]
        before = await prefs.get_preferences()
        check(before, ("always", set(), set()), "preferences")
        always, never = [JID("carol@localhost")], [JID("dave@localhost")]
        answer = (await prefs.set_preferences("roster", always, never))["mam_prefs"]
        check(answer["default"], "roster", "the answer")
        check(await prefs.get_preferences(), ("roster", set(always), set(never)), "preferences")
        await prefs.set_preferences("always", [], [])
        check(await prefs.get_preferences(), before, "preferences")

    async def push(self):
        bob, service = self.bob, self.service
        await service.live.wait()
        # Whoever has its presence may ask it: else no push would reach this session.
        service.send_presence(pto=bob.boundjid.bare)
        await service.plugin["xep_0199"].ping(JID("localhost"))
        await bob.live.wait()
        if not self.enabled:
            enable = bob.make_iq_set()
            enable["push_enable"]["jid"] = service.boundjid.full
            enable["push_enable"]["node"] = "bob's"
            await enable.send()
            self.enabled = True
        await bob.plugin["xep_0199"].ping(JID("localhost"))
        bob.sessions.clear()
        bob.away = True
        bob.abort()
        expected = self.sent
        push = None
        while push is None:
            # Until the server has seen that bob is gone, nobody needs to wake him.
            self.send()
            try:
                push = await asyncio.wait_for(service.pushes.get(), 1)
            except asyncio.TimeoutError:
                pass
        publish = push["pubsub"]["publish"]
        check(publish["node"], "bob's", "the node of the push")
        summary = publish["item"]["push_notification"]["form"].get_values()
        # A hidden field may have several values.
        check(summary["FORM_TYPE"], ["urn:xmpp:push:summary"], "the form of the push")
        check(summary["message-count"], "1", "the count of the push")
        bob.away = False
        bob.begin()
        for number in range(expected, self.sent):
            check(await bob.got.get(), number, "bob got")
        check(bob.sessions, ["resumed"], "bob's sessions since then")
        await bob.plugin["xep_0199"].ping(JID("localhost"))
        check(bob.got.empty(), True, "that is all")


def numbers(results):
    return [int(result["mam_result"]["forwarded"]["stanza"]["body"]) for result in results]


async def watch(people):
    """Ends with an error as soon as someone fails."""
    while not any(person.failure for person in people):
        await asyncio.sleep(0.05)
    raise AssertionError([person.failure for person in people])


async def follow(play, people):
    loop = asyncio.get_running_loop()
    for person in people:
        await person.live.wait()
    say("ready")
    while True:
        command, *words = (await loop.run_in_executor(None, sys.stdin.readline)).split() or ["end"]
        if command == "end":
            break
        await getattr(play, command)(*words)
        say("done", command)
    for person in people:
        person.ended = True
        await person.disconnect()
    say("done", "end")


async def main():
    host, port, certificate, *accounts = sys.argv[1:]
    people = [
        Person((host, int(port)), certificate, account, password)
        for account, password in zip(accounts[::2], accounts[1::2])
    ]
    for person in people:
        person.peer = people[1].boundjid.full
        person.begin()
    tasks = [asyncio.ensure_future(task) for task in (watch(people), follow(Play(*people), people))]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    tasks[0].cancel()


if __name__ == "__main__":
    asyncio.run(main())
