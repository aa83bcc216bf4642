"""slixmpp's plugins for commands (XEP-0050) and service administration (XEP-0133).

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD ACCOUNT PASSWORD: alice administers the server, bob is told something.
Prints a line for each step and `done` at the end.
"""

import asyncio
import sys

from talk import Talker, say

ADMIN = "http://jabber.org/protocol/admin#"


def check(found, expected, what):
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")
    say(what)


class Person(Talker):
    """One account, with the plugins."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        for plugin in ("xep_0030", "xep_0004", "xep_0050", "xep_0133"):
            self.register_plugin(plugin)
        self.heard = asyncio.Queue()

    def on_message(self, message):
        self.heard.put_nowait((message["type"], message["from"].bare, message["body"]))

    async def command(self, name, **fields):
        """Runs a command of XEP-0133 through the plugin; the form that it ends with."""
        ended = asyncio.get_running_loop().create_future()

        def first(iq, session):
            form = iq["command"]["form"]
            answer = self.plugin["xep_0004"].make_form(ftype="submit")
            answer.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/admin")
            for var, value in fields.items():
                if var not in form.get_fields():
                    raise AssertionError(f"{name} does not ask for {var}")
                answer.add_field(var=var, value=value)
            session["payload"] = answer
            session["next"] = last
            self.plugin["xep_0050"].complete_command(session)

        def last(iq, session):
            ended.set_result(iq)

        def error(iq, session):
            ended.set_result(iq)

        session = {"next": first if fields else last, "error": error}
        getattr(self.plugin["xep_0133"], name)(self.boundjid.domain, session=session)
        return await ended


async def values(alice, name, **fields):
    """What a report says."""
    return (await alice.command(name, **fields))["command"]["form"].get_values()


async def report(alice):
    told = await values(alice, "get_online_users_num")
    check(told["onlineusersnum"], "2", "those who are online are counted")
    told = await values(alice, "get_online_users_list", max_items="25")
    check(told["onlineuserjids"], ["alice@localhost", "bob@localhost"], "and listed")
    told = await values(alice, "get_registered_users_list", max_items="25")
    check("dora@localhost" in told["registereduserjids"], True, "all accounts are listed")
    told = await values(alice, "user_stats", accountjid="bob@localhost")
    check(told["rostersize"], "0", "there are numbers about a user")
    told = await values(alice, "get_user_lastlogin", accountjids="bob@localhost")
    check(told["lastlogin"].endswith("Z"), True, "and when he was here")
    done = await alice.command("get_user_roster", accountjids="bob@localhost")
    check(done["command"]["status"], "completed", "and his roster")


async def greet(alice, bob):
    await alice.command("set_motd", motd="Welcome")
    check((await bob.heard.get())[2], "Welcome", "who is online has the message of the day")
    for name, fields in (("edit_motd", {"motd": "Hello"}), ("delete_motd", {})):
        done = await alice.command(name, **fields)
        check(done["command"]["status"], "completed", name)


async def change(alice, bob):
    dora = "dora@localhost"
    for name, fields in (
        ("change_user_password", {"accountjid": dora, "password": "a b c"}),
        ("disable_user", {"accountjids": dora}),
        ("reenable_user", {"accountjids": dora}),
    ):
        done = await alice.command(name, **fields)
        check(done["command"]["status"], "completed", name)
    done = await alice.command("delete_user", accountjids=dora)
    check(done["command"]["status"], "completed", "she is removed")
    lost = asyncio.Event()
    bob.ended = True
    bob.add_event_handler("disconnected", lambda _: lost.set())
    await alice.command("end_user_session", accountjids="bob@localhost")
    await lost.wait()
    check(bob.live.is_set(), False, "bob's session is ended")


async def administer(alice, bob):
    for person in (alice, bob):
        await person.live.wait()
    domain = alice.boundjid.domain
    items = await alice.plugin["xep_0050"].get_commands(domain)
    nodes = {item[1] for item in items["disco_items"]["items"]}
    check(ADMIN + "add-user" in nodes, True, "an administrator is shown commands")
    items = await bob.plugin["xep_0050"].get_commands(domain)
    nodes = {item[1] for item in items["disco_items"]["items"]}
    check({node for node in nodes if node.startswith(ADMIN)}, set(), "and nobody else")
    done = await alice.command("add_user", accountjid="dora@localhost", password="x y z")
    check(done["command"]["status"], "completed", "an account is made")
    done = await alice.command("get_registered_users_num")
    check(done["command"]["form"].get_values()["registeredusersnum"], "3", "and counted")
    done = await bob.command("get_registered_users_num")
    check(done["error"]["condition"], "forbidden", "nobody else may")
    await alice.command("announce", announcement="Attention!\nNow.")
    check(await bob.heard.get(), ("headline", domain, "Attention!\nNow."), "everybody is told")
    await report(alice)
    await greet(alice, bob)
    await change(alice, bob)
    for person in (alice, bob):
        person.ended = True
        await person.disconnect()
    say("done")


async def main():
    host, port, certificate, *accounts = sys.argv[1:]
    people = [
        Person((host, int(port)), certificate, account, password)
        for account, password in zip(accounts[::2], accounts[1::2])
    ]
    for person in people:
        person.begin()
    await asyncio.wait_for(administer(*people), 60)


if __name__ == "__main__":
    asyncio.run(main())
