"""Two slixmpp clients that talk to each other while their nodes die.

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD ACCOUNT PASSWORD. Commands come on standard input, one a
line: `send N` has each client send N more numbered messages, `end` ends. On standard output: `ready` when
both are online, `lost NAME`, `resumed NAME`, `got NAME NUMBER` for every message, and at last `done`.

slixmpp forgets what it is told to send while it has no stream, so nothing is sent then, and what its send
queue held at that moment is held back until the session goes on; what it sent and did not get acknowledged
it sends again by itself.
"""

import asyncio
import sys
from pathlib import Path

from slixmpp import ClientXMPP
from slixmpp.exceptions import XMPPError
from slixmpp.stanza import Iq, Message


def say(*words):
    print(*words, flush=True)


class Talker(ClientXMPP):
    """One account, which comes back by itself."""

    def __init__(self, address, certificate, account, password):
        super().__init__(account + "/slixmpp", password)
        self.address = address
        self.name = account.split("@")[0]
        self.ca_certs = Path(certificate)
        self.enable_starttls = False
        self.live = asyncio.Event()
        self.ended = False
        self.peer = None
        self.sent = 0
        self.lost = False
        self.held_back = []
        self.register_plugin("xep_0198")
        self.register_plugin("xep_0199")
        # Behind the plugin's own filter, which does not keep what passes it without a stream.
        self.add_filter("out_sync", self.hold_back)
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("session_resumed", self.on_resumed)
        self.add_event_handler("sm_failed", lambda _: self.fail("was not resumed"))
        self.add_event_handler("failed_auth", lambda _: self.fail("cannot log in"))
        self.add_event_handler("disconnected", self.on_lost)
        self.add_event_handler("message", self.on_message)

    def fail(self, what):
        say("failed", self.name, what)

    def begin(self):
        self.connect(*self.address)

    async def on_start(self, _):
        try:
            await self.get_roster()
        except XMPPError as error:
            self.fail(f"has no roster: {error}")
        self.send_presence()
        if not self.plugin["xep_0198"].sm_id:
            self.fail("has no session that can be resumed")
        self.live.set()

    def hold_back(self, stanza):
        if self.lost and isinstance(stanza, (Message, Iq)):
            self.held_back.append(stanza)
            return None
        return stanza

    def on_resumed(self, _):
        say("resumed", self.name)
        self.lost = False
        held_back, self.held_back = self.held_back, []
        for stanza in held_back:
            self.send(stanza)
        self.live.set()

    def on_lost(self, _):
        self.live.clear()
        # Before there is a session, nothing needs to be held back until it goes on.
        self.lost = self.plugin["xep_0198"].sm_id is not None
        if self.ended:
            return
        say("lost", self.name)
        asyncio.get_running_loop().call_later(0.05, self.begin)

    def on_message(self, message):
        if message["type"] in ("chat", "normal"):
            say("got", self.name, message["body"])
        else:
            self.fail(f"got {message}")

    async def talk(self, count):
        for _ in range(count):
            await self.live.wait()
            self.send_message(mto=self.peer, mbody=str(self.sent), mtype="chat")
            self.sent += 1
            # Lets the other one speak, and the connection be lost, between two messages.
            await asyncio.sleep(0.002)


async def main():
    host, port, certificate, *accounts = sys.argv[1:]
    loop = asyncio.get_running_loop()
    talkers = [
        Talker((host, int(port)), certificate, account, password)
        for account, password in zip(accounts[::2], accounts[1::2])
    ]
    for one, other in zip(talkers, reversed(talkers)):
        one.peer = other.boundjid.full
        one.begin()
    for talker in talkers:
        await talker.live.wait()
    say("ready")
    tasks = []
    while True:
        command, *words = (await loop.run_in_executor(None, sys.stdin.readline)).split() or ["end"]
        if command == "end":
            break
        tasks += [asyncio.ensure_future(talker.talk(int(words[0]))) for talker in talkers]
    await asyncio.gather(*tasks)
    for talker in talkers:
        talker.ended = True
        await talker.disconnect()
    say("done")


if __name__ == "__main__":
    asyncio.run(main())
