CREATE TABLE pubsub_node (
    account TEXT NOT NULL,
    node TEXT NOT NULL,
    config TEXT NOT NULL,
    on_presence BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    items BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (account, node)
);
CREATE TABLE pubsub_item (
    account TEXT NOT NULL,
    node TEXT NOT NULL,
    id TEXT NOT NULL,
    place BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    xml TEXT NOT NULL,
    PRIMARY KEY (account, node, id)
);
CREATE INDEX pubsub_item_place ON pubsub_item (account, node, place);
CREATE TABLE pubsub_affiliation (
    account TEXT NOT NULL,
    node TEXT NOT NULL,
    jid TEXT NOT NULL,
    affiliation TEXT NOT NULL,
    PRIMARY KEY (account, node, jid)
);
CREATE TABLE pubsub_subscription (
    account TEXT NOT NULL,
    node TEXT NOT NULL,
    jid TEXT NOT NULL,
    PRIMARY KEY (account, node, jid)
);
