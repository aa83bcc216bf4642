"""A slixmpp client that reads its archive and says what is to be kept.

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD PEER. On standard output: `forwards BODY` and `backwards
BODY` for every message exchanged with the peer, `id ID` for every message, `fields NAME…`, `ends FIRST LAST`,
`prefs DEFAULT NEVER…`, and at last `done`; or `failed` and why.
"""

import asyncio
import sys
from pathlib import Path

from slixmpp import ClientXMPP, JID
from slixmpp.exceptions import XMPPError


def say(*words):
    print(*words, flush=True)


class Reader(ClientXMPP):
    """One account, once."""

    def __init__(self, certificate, account, password, peer):
        super().__init__(account + "/slixmpp", password)
        self.ca_certs = Path(certificate)
        self.enable_starttls = False
        self.peer = JID(peer)
        self.over = asyncio.Event()
        for plugin in ("xep_0030", "xep_0198", "xep_0313", "xep_0441"):
            self.register_plugin(plugin)
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("failed_auth", lambda _: self.fail("cannot log in"))

    def fail(self, what):
        say("failed", what)
        self.over.set()

    async def on_start(self, _):
        try:
            await self.read()
            say("done")
        except XMPPError as error:
            say("failed", repr(error))
        self.over.set()

    async def read(self):
        mam, prefs = self.plugin["xep_0313"], self.plugin["xep_0441"]
        info = await self.plugin["xep_0030"].get_info(jid=self.boundjid.bare)
        for feature in ("urn:xmpp:mam:2", "urn:xmpp:mam:2#extended"):
            if feature not in info["disco_info"]["features"]:
                return self.fail(f"{feature} is not announced")
        for name, reverse in (("forwards", False), ("backwards", True)):
            pages = mam.iterate(with_jid=self.peer, reverse=reverse, rsm={"max": 10})
            async for message in pages:
                say(name, message["mam_result"]["forwarded"]["stanza"]["body"])
        async for message in mam.iterate(rsm={"max": 10}):
            say("id", message["mam_result"]["id"])
        form = await mam.get_fields()
        say("fields", *sorted(form.get_fields()))
        metadata = await mam.get_archive_metadata()
        ends = metadata["mam_metadata"]
        say("ends", ends["start"]["id"], ends["end"]["id"])
        await prefs.set_preferences(default="roster", always=[], never=[self.peer])
        default, _, never = await prefs.get_preferences()
        say("prefs", default, *never)


async def main(host, port, certificate, account, password, peer):
    reader = Reader(certificate, account, password, peer)
    reader.connect(host, int(port))
    await reader.over.wait()
    await reader.disconnect()


asyncio.run(main(*sys.argv[1:]))
