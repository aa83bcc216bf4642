"""slixmpp's plugins for what messages carry: chat states (XEP-0085), receipts (XEP-0184), markers (XEP-0333), corrections
(XEP-0308), retractions (XEP-0424, with XEP-0422, XEP-0428), reactions (XEP-0444), replies (XEP-0461), ids (XEP-0359), hints
(XEP-0334), copies for another client (XEP-0280, with XEP-0297), client state (XEP-0352), invitations to rooms (XEP-0249), and
when a message was sent that had to wait (XEP-0203).

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD ACCOUNT PASSWORD ACCOUNT PASSWORD: alice, alice again with another
client, and bob. Prints a line for each step and `done` at the end.
"""

from slixmpp import JID

from person import Person, check, run

PLUGINS = (
    "xep_0030", "xep_0085", "xep_0184", "xep_0203", "xep_0249", "xep_0280", "xep_0297", "xep_0308", "xep_0333", "xep_0334",
    "xep_0352", "xep_0359", "xep_0422", "xep_0424", "xep_0428", "xep_0444", "xep_0461",
)
EVENTS = (
    "chatstate_composing", "receipt_received", "marker_displayed", "message_correction", "message_retract", "reactions",
    "message_reply", "carbon_received", "carbon_sent", "groupchat_direct_invite",
)


def written(person, to, body):
    message = person.make_message(mto=to, mbody=body, mtype="chat")
    message["id"] = person.new_id()
    return message


async def converse(alice, bob):
    to = JID(bob.boundjid.bare)
    state = alice.make_message(mto=to, mtype="chat")
    state["chat_state"] = "composing"
    state.send()
    check((await bob.hear("chatstate_composing"))["from"], alice.boundjid, "bob sees that she writes")
    first = written(alice, to, "frist")
    first["request_receipt"] = True
    first.enable("markable")
    first["origin_id"]["id"] = first["id"]
    first.send()
    came = await bob.message("frist")
    check(came["origin_id"]["id"], first["id"], "the sender's id is left alone")
    check(JID(came["stanza_id"]["by"]).bare, bob.boundjid.bare, "and bob's archive has one of its own")
    check(came["stanza_id"]["id"] != "", True, "which is not empty")
    check((await alice.hear("receipt_received"))["receipt"], first["id"], "she gets a receipt")
    bob.plugin["xep_0333"].send_marker(alice.boundjid, first["id"], "displayed", mtype="chat")
    check((await alice.hear("marker_displayed"))["displayed"]["id"], first["id"], "and hears that he has read it")
    alice.plugin["xep_0308"].build_correction(first["id"], to, mbody="first").send()
    corrected = await bob.hear("message_correction")
    check((corrected["replace"]["id"], corrected["body"]), (first["id"], "first"), "a correction comes")
    bob.plugin["xep_0444"].send_reactions(alice.boundjid, first["id"], ["👍", "🐟"])
    reactions = (await alice.hear("reactions"))["reactions"]
    check((reactions["id"], reactions["values"]), (first["id"], {"👍", "🐟"}), "reactions come")
    bob.plugin["xep_0461"].send_reply(
        alice.boundjid, first["id"], "first", mto=alice.boundjid, mbody="second", mtype="chat"
    )
    reply = await alice.hear("message_reply")
    check((reply["reply"]["id"], reply["reply"].strip_fallback_content()), (first["id"], "second"), "a reply comes")
    alice.plugin["xep_0424"].send_retraction(to, first["id"])
    check((await bob.hear("message_retract"))["retract"]["id"], first["id"], "a retraction comes")
    alice.plugin["xep_0249"].send_invitation(to, JID("room@rooms.example"), reason="Come")
    invited = await bob.hear("groupchat_direct_invite")
    check(invited["groupchat_invite"]["jid"], "room@rooms.example", "an invitation to a room comes")


async def copy(alice, tablet, bob):
    await tablet.plugin["xep_0280"].enable()
    hidden = written(alice, bob.boundjid, "hidden")
    hidden.enable("no-copy")
    hidden.send()
    written(alice, bob.boundjid, "shown").send()
    sent = await tablet.hear("carbon_sent")
    check(sent["carbon_sent"]["body"], "shown", "her other client sees what she writes, unless it is not to")
    written(bob, alice.boundjid, "answer").send()
    came = await tablet.hear("carbon_received")
    check(came["carbon_received"]["body"], "answer", "and what she is answered")
    await tablet.plugin["xep_0280"].disable()
    written(alice, bob.boundjid, "alone").send()
    await bob.message("alone")
    await tablet.plugin["xep_0199"].ping(tablet.boundjid.domain)
    check(tablet.heard["carbon_sent"].empty(), True, "and nothing once it is switched off")


async def rest(alice, bob):
    check(bob.plugin["xep_0352"].enabled, True, "client state is offered")
    bob.plugin["xep_0352"].send_inactive()
    state = alice.make_message(mto=bob.boundjid, mtype="chat")
    state["chat_state"] = "composing"
    state.send()
    await alice.plugin["xep_0199"].ping(alice.boundjid.domain)
    check(bob.heard["chatstate_composing"].empty(), True, "nobody is woken by a chat state")
    written(alice, bob.boundjid, "wakes").send()
    await bob.hear("chatstate_composing")
    await bob.message("wakes")
    bob.plugin["xep_0352"].send_active()
    await bob.plugin["xep_0199"].ping(bob.boundjid.domain)
    check(True, True, "a message comes through, and what waited before it")


async def wait(alice, bob):
    to = JID(bob.boundjid.bare)
    account, password = str(to), bob.password
    bob.ended = True
    await bob.disconnect()
    written(alice, to, "later").send()
    await alice.plugin["xep_0199"].ping(alice.boundjid.domain)
    again = Person(bob.address, bob.ca_certs, account, password, PLUGINS, EVENTS)
    again.begin()
    await again.arrive()
    came = await again.message("later")
    check(came["delay"]["stamp"] is not None, True, "what had to wait says since when")
    await again.leave()


async def play(alice, tablet, bob):
    # The first two are the same account: which client gets what is for the tests of the server itself.
    await converse(alice, bob)
    await copy(alice, tablet, bob)
    await rest(alice, bob)
    await wait(alice, bob)


if __name__ == "__main__":
    run(play, PLUGINS, EVENTS)
