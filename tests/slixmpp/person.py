"""What the scripts share that drive one plugin after the other: somebody with plugins, who hears events."""

import asyncio
import sys

from slixmpp import JID
from talk import Talker, say

# How long something may take that another one is to hear.
PATIENCE = 30


def check(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")
    say(what)


class Person(Talker):
    """One account, with these plugins; what the events have brought waits to be heard."""

    def __init__(self, address, certificate, account, password, plugins, events=(), resource="slixmpp"):
        super().__init__(address, certificate, account, password)
        self.requested_jid = self.boundjid = JID(f"{account}/{resource}")
        for plugin in plugins:
            self.register_plugin(plugin)
        self.heard = {event: asyncio.Queue() for event in events}
        self.messages = asyncio.Queue()
        for event, queue in self.heard.items():
            self.add_event_handler(event, queue.put_nowait)

    def on_message(self, message):
        self.messages.put_nowait(message)

    async def arrive(self):
        """Is there for others, too: what comes behind its presence is answered."""
        await asyncio.wait_for(self.live.wait(), PATIENCE)
        await self.plugin["xep_0199"].ping(JID(self.boundjid.domain))

    async def hear(self, event):
        return await asyncio.wait_for(self.heard[event].get(), PATIENCE)

    async def message(self, body):
        """The message with this body; others before it are let go."""
        while True:
            message = await asyncio.wait_for(self.messages.get(), PATIENCE)
            if message["body"] == body:
                return message

    async def leave(self):
        self.ended = True
        await self.disconnect()


async def befriend(one, other):
    """Both see each other's presence from now on; slixmpp agrees to what it is asked."""
    there = asyncio.Queue()
    for person, friend in ((one, other), (other, one)):
        name = friend.boundjid.bare
        person.add_event_handler("presence_available", lambda p, n=name: p["from"].bare == n and there.put_nowait(n))
    one.send_presence_subscription(other.boundjid.bare)
    seen = set()
    while len(seen) < 2:
        seen.add(await asyncio.wait_for(there.get(), PATIENCE))


def run(play, plugins, events):
    """Has `play` play with the accounts of the command line: HOST PORT CERTIFICATE, and ACCOUNT PASSWORD for each."""

    async def main():
        host, port, certificate, *accounts = sys.argv[1:]
        address = (host, int(port))

        pairs = zip(accounts[::2], accounts[1::2])
        people = [
            Person(address, certificate, *pair, plugins, events, f"slixmpp{number}") for number, pair in enumerate(pairs)
        ]
        for one in people:
            one.begin()
        for one in people:
            await one.arrive()
        await asyncio.wait_for(play(*people), 5 * PATIENCE)
        for one in people:
            await one.leave()
        say("done")

    asyncio.run(main())
