"""slixmpp's plugins for what people say of themselves and keep for themselves: nickname (XEP-0172), activity (XEP-0108),
tune (XEP-0118), location (XEP-0080) and game (XEP-0196), both kinds of vCards (XEP-0054, XEP-0292), the avatar in presence
(XEP-0153, with XEP-0398 to XEP-0084), public and private nodes (XEP-0222, XEP-0223), private XML (XEP-0049), and since when
somebody is idle (XEP-0319).

Arguments: HOST PORT CERTIFICATE ACCOUNT PASSWORD ACCOUNT PASSWORD: alice publishes, bob is her friend. Prints a line
for each step and `done` at the end.
"""

import hashlib

from slixmpp import JID
from slixmpp.exceptions import IqError
from slixmpp.xmlstream import ElementBase

from person import befriend, check, run

PLUGINS = (
    "xep_0030", "xep_0049", "xep_0054", "xep_0060", "xep_0080", "xep_0084", "xep_0108", "xep_0115", "xep_0118",
    "xep_0153", "xep_0163", "xep_0172", "xep_0196", "xep_0222", "xep_0223", "xep_0292", "xep_0319",
)
EVENTS = (
    "user_nick_publish", "user_activity_publish", "user_tune_publish", "user_location_publish", "user_gaming_publish",
    "vcard_avatar_update", "avatar_metadata_publish", "presence_idle",
)
PICTURE = b"\x89PNG\r\n\x1a\nno picture at all"


class Note(ElementBase):
    """Something to be kept."""

    name = "note"
    namespace = "urn:example:note"
    plugin_attrib = "note"
    interfaces = {"text"}
    sub_interfaces = {"text"}


async def tell_friends(alice, bob):
    own = alice.boundjid.bare

    async def told(event, plugin, of):
        message = await bob.hear(event)
        check(message["from"].bare, own, f"a friend hears of {event}")
        return message["pubsub_event"]["items"]["item"][plugin][of]

    await alice.plugin["xep_0172"].publish_nick("Ally")
    check(await told("user_nick_publish", "nick", "nick"), "Ally", "the nickname")
    await alice.plugin["xep_0108"].publish_activity("doing_chores", "cooking", "soup")
    check(await told("user_activity_publish", "activity", "value"), ("doing_chores", "cooking"), "the activity")
    await alice.plugin["xep_0118"].publish_tune(artist="Nobody", title="Nothing", length=242)
    check(await told("user_tune_publish", "tune", "title"), "Nothing", "the tune")
    await alice.plugin["xep_0080"].publish_location(lat=52.5, lon=13.4, locality="Berlin")
    check(await told("user_location_publish", "geoloc", "locality"), "Berlin", "the location")
    await alice.plugin["xep_0196"].publish_gaming(name="Chess", level="1")
    check(await told("user_gaming_publish", "gaming", "name"), "Chess", "the game")
    await alice.plugin["xep_0319"].idle()
    presence = alice.make_presence()
    presence.send()
    check((await bob.hear("presence_idle"))["from"].bare, own, "a friend sees since when she is idle")


async def show_vcards(alice, bob):
    own = alice.boundjid.bare
    vcard = alice.plugin["xep_0054"].make_vcard()
    vcard["FN"] = "Alice Example"
    await alice.plugin["xep_0054"].publish_vcard(vcard, jid=JID(own))
    found = await bob.plugin["xep_0054"].get_vcard(JID(own), local=False)
    check(found["vcard_temp"]["FN"], "Alice Example", "a friend reads the vCard")
    await alice.plugin["xep_0292"].publish_vcard(full_name="Alice Example", note="hello")
    found = await bob.plugin["xep_0292"].retrieve_vcard(JID(own))
    vcard4 = found["pubsub"]["items"]["item"]["vcard"]
    check(vcard4["full_name"], "Alice Example", "a friend reads the newer vCard")
    await alice.plugin["xep_0153"].set_avatar(JID(own), avatar=PICTURE, mtype="image/png")
    number = hashlib.sha1(PICTURE).hexdigest()
    while (await bob.hear("vcard_avatar_update"))["vcard_temp_update"]["photo"] != number:
        pass
    check(True, True, "a friend sees the avatar of the vCard in her presence")
    told = await bob.hear("avatar_metadata_publish")
    check(told["pubsub_event"]["items"]["item"]["id"], number, "and as a node")
    item = await bob.plugin["xep_0084"].retrieve_avatar(JID(own), number)
    check(item["pubsub"]["items"]["item"]["avatar_data"]["value"], PICTURE, "which has the picture")


async def keep(alice, bob):
    own = JID(alice.boundjid.bare)
    note = Note()
    note["text"] = "kept"
    alice.plugin["xep_0049"].register(Note)
    await alice.plugin["xep_0049"].store(note)
    found = await alice.plugin["xep_0049"].retrieve("note")
    check(found["private"]["note"]["text"], "kept", "private XML is kept")

    async def reads(person, node):
        answer = await person.plugin["xep_0060"].get_items(own, node)
        payloads = [item["payload"] for item in answer["pubsub"]["items"]]
        return [payload.findtext("{urn:example:note}text") for payload in payloads]

    await alice.plugin["xep_0222"].store(note, node="urn:example:public")
    check(await reads(bob, "urn:example:public"), ["kept"], "a friend reads a public node")
    await alice.plugin["xep_0223"].store(note, node="urn:example:private")
    check(await reads(alice, "urn:example:private"), ["kept"], "a private node is for its owner")
    try:
        await reads(bob, "urn:example:private")
        raise AssertionError("a friend reads a private node")
    except IqError as error:
        check(error.condition in ("forbidden", "not-authorized", "item-not-found", "not-allowed"), True, "and nobody else")


async def play(alice, bob):
    await befriend(alice, bob)
    await tell_friends(alice, bob)
    await show_vcards(alice, bob)
    await keep(alice, bob)


if __name__ == "__main__":
    run(play, PLUGINS, EVENTS)
