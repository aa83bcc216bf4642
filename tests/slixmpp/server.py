"""slixmpp's plugins for what a client asks the server: version (XEP-0092), time (XEP-0202), ping (XEP-0199), last activity
(XEP-0012), whom to write to (XEP-0157, by XEP-0030 and XEP-0128) and where outages are told (XEP-0455), blocking (XEP-0191)
and reports (XEP-0377), registration (XEP-0077) with its fields and its form, and an invitation by a command (XEP-0401, by
XEP-0050).

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD ACCOUNT PASSWORD. Prints a line for each step and `done` at the end.
"""

import asyncio

from slixmpp import JID
from slixmpp.exceptions import IqError

from person import PATIENCE, Person, befriend, check, run

PLUGINS = (
    "xep_0004", "xep_0012", "xep_0030", "xep_0050", "xep_0077", "xep_0092", "xep_0128", "xep_0191", "xep_0202", "xep_0377",
    "xep_0455",
)
EVENTS = ("blocked", "unblocked", "message_error")


async def ask(alice, bob):
    domain = JID(alice.boundjid.domain)
    version = (await alice.plugin["xep_0092"].get_version(domain))["software_version"]
    check(version["name"], "Holdfast", "the server says what it is")
    version = (await alice.plugin["xep_0092"].get_version(bob.boundjid))["software_version"]
    check(version["name"], "Slixmpp", "and so does another client")
    time = (await alice.plugin["xep_0202"].get_entity_time(domain))["entity_time"]
    # slixmpp 1.17 cannot read what it is told: it appends another Z.
    check(time.xml.findtext("{urn:xmpp:time}utc").endswith("Z"), True, "the server knows the time")
    await alice.plugin["xep_0199"].ping(domain)
    last = (await alice.plugin["xep_0012"].get_last_activity(domain))["last_activity"]
    check(last["seconds"] >= 0, True, "it says for how long it runs")
    info = (await alice.plugin["xep_0030"].get_info(jid=domain))["disco_info"]
    forms = [form.get_values() for form in info["forms"]]
    contact = [form for form in forms if "http://jabber.org/network/serverinfo" in form["FORM_TYPE"]]
    check(contact[0]["abuse-addresses"], ["mailto:abuse@localhost"], "it says whom to write to")
    addresses = await alice.plugin["xep_0455"].get_external_status_addresses(domain)
    check(addresses, ["https://status.localhost/xmpp.json"], "and where outages are told")


async def block(alice, bob):
    blocking, peer = bob.plugin["xep_0191"], JID(alice.boundjid.bare)

    async def arrives():
        message = alice.make_message(mto=bob.boundjid, mbody="hello", mtype="chat")
        message.send()
        await alice.plugin["xep_0199"].ping(alice.boundjid.domain)
        return alice.heard["message_error"].empty()

    # Who has asked for the list hears of its changes.
    check(await blocking.get_blocked_jids(), set(), "nobody is blocked")
    check(await arrives(), True, "bob is reached")
    await blocking.block(peer)
    check((await bob.hear("blocked"))["type"], "set", "his clients hear what is blocked")
    check(await blocking.get_blocked_jids(), {peer}, "and have the list")
    check(await arrives(), False, "he is reached no more")
    check((await alice.hear("message_error"))["error"]["condition"], "service-unavailable", "for whatever reason")
    await blocking.unblock(peer)
    await bob.hear("unblocked")
    check(await blocking.get_blocked_jids(), set(), "the list is empty")
    await bob.plugin["xep_0377"].report(peer, "spam")
    check(await blocking.get_blocked_jids(), {peer}, "who is reported is blocked")
    await blocking.unblock(peer)


async def register(bob, name, fill):
    """Makes an account before the login, as the plugin does it; somebody who has it."""
    plugins = ("xep_0030", "xep_0004", "xep_0077")
    account = f"{name}@{bob.boundjid.domain}"
    person = Person(bob.address, bob.ca_certs, account, "first password", plugins)

    async def on_form(form):
        iq = person.make_iq_set()
        fill(person, iq, form)
        await iq.send()

    person.add_event_handler("register", on_form)
    person.begin()
    await asyncio.wait_for(person.live.wait(), PATIENCE)
    check(person.boundjid.user, name, f"{name} has an account")
    return person


def fill_fields(person, iq, form):
    check("username" in form["register"]["fields"], True, "a name is asked for")
    iq["register"]["username"] = person.boundjid.user
    iq["register"]["password"] = person.password


def fill_form(person, iq, form):
    asked = form["register"]["form"]
    check(set(asked.get_fields()), {"FORM_TYPE", "username", "password"}, "there is a form")
    filled = person.plugin["xep_0004"].make_form(ftype="submit")
    filled.add_field(var="FORM_TYPE", ftype="hidden", value="jabber:iq:register")
    filled.add_field(var="username", value=person.boundjid.user)
    filled.add_field(var="password", value=person.password)
    iq.enable("register")
    iq["register"].append(filled)


async def account(bob):
    dora = await register(bob, "dora", fill_fields)
    await dora.leave()
    erik = await register(bob, "erik", fill_form)
    await erik.plugin["xep_0077"].change_password("second password")
    told = (await erik.plugin["xep_0077"].get_registration())["register"]
    check((told["registered"], told["username"]), (True, "erik"), "he is told what he is called")
    erik.ended = True
    await erik.plugin["xep_0077"].cancel_registration()
    again = Person(bob.address, bob.ca_certs, str(erik.boundjid.bare), "second password", ())
    refused = asyncio.Event()
    again.add_event_handler("failed_auth", lambda _: refused.set())
    again.fail = lambda _: None
    again.ended = True
    again.begin()
    await asyncio.wait_for(refused.wait(), PATIENCE)
    check(again.live.is_set(), False, "and is gone at last")
    again.abort()


async def invite(bob):
    ended = asyncio.get_running_loop().create_future()
    done = lambda iq, _: ended.set_result(iq)
    session = {"next": done, "error": done}
    bob.plugin["xep_0050"].start_command(bob.boundjid.domain, "urn:xmpp:invite#invite", session)
    told = (await asyncio.wait_for(ended, PATIENCE))["command"]["form"].get_values()
    check(told["uri"].startswith(f"xmpp:{bob.boundjid.bare}?roster;preauth="), True, "bob has an invitation")


async def play(alice, bob):
    # Of a stranger's client nobody learns anything.
    await befriend(alice, bob)
    await ask(alice, bob)
    await block(alice, bob)
    await account(bob)
    await invite(bob)


if __name__ == "__main__":
    run(play, PLUGINS, EVENTS)
