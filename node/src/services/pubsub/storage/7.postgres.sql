CREATE TABLE pubsub_node (
    account TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    config TEXT NOT NULL,
    on_presence BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    items BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (account, node)
);
CREATE TABLE pubsub_item (
    account TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    id TEXT NOT NULL,
    place BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    xml TEXT NOT NULL,
    PRIMARY KEY (account, node, id)
);
CREATE INDEX pubsub_item_place ON pubsub_item (account, node, place);
CREATE TABLE pubsub_affiliation (
    account TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    jid TEXT COLLATE "C" NOT NULL,
    affiliation TEXT NOT NULL,
    PRIMARY KEY (account, node, jid)
);
CREATE TABLE pubsub_subscription (
    account TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    jid TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, node, jid)
);
