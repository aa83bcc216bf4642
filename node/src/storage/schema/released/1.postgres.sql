-- The first schema, for PostgreSQL. It differs from SQLite's in the type of bytes and a collation.

CREATE TABLE account (
    localpart TEXT NOT NULL,
    domain TEXT NOT NULL,
    created BIGINT NOT NULL,
    disabled BIGINT NOT NULL DEFAULT 0,
    sha1_salt BYTEA,
    sha1_iterations BIGINT,
    sha1_stored BYTEA,
    sha1_server BYTEA,
    sha256_salt BYTEA,
    sha256_iterations BIGINT,
    sha256_stored BYTEA,
    sha256_server BYTEA,
    PRIMARY KEY (domain, localpart)
);

-- Random values that all nodes must agree on.
CREATE TABLE secret (
    name TEXT NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

-- One row per contact; a removed one stays as the record that it was removed (IM-26).
-- last_change names the change that made the row what it is; before is the contact before that change.
CREATE TABLE roster (
    account TEXT NOT NULL,
    contact TEXT NOT NULL,
    removed BIGINT NOT NULL,
    listed BIGINT NOT NULL,
    name TEXT,
    subscription TEXT NOT NULL,
    ask BIGINT NOT NULL,
    approved BIGINT NOT NULL,
    contact_groups TEXT NOT NULL,
    request TEXT,
    version BIGINT NOT NULL,
    last_change TEXT,
    before TEXT,
    PRIMARY KEY (account, contact)
);

CREATE TABLE roster_version (
    account TEXT NOT NULL PRIMARY KEY,
    epoch TEXT NOT NULL,
    version BIGINT NOT NULL
);

-- place is the order of delivery to the account; stamp need not follow it.
CREATE TABLE archive (
    owner TEXT NOT NULL,
    mid TEXT COLLATE "C" NOT NULL,
    place BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    with_bare TEXT NOT NULL,
    with_full TEXT NOT NULL,
    sent BIGINT NOT NULL,
    hidden BIGINT NOT NULL,
    stanza TEXT NOT NULL,
    PRIMARY KEY (owner, mid)
);
CREATE INDEX archive_place ON archive (owner, place);
CREATE INDEX archive_with ON archive (owner, with_bare, place);
CREATE INDEX archive_stamp ON archive (stamp);

CREATE TABLE vcard (
    account TEXT NOT NULL PRIMARY KEY,
    xml TEXT NOT NULL
);

CREATE TABLE private_xml (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    xml TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE last_activity (
    account TEXT NOT NULL PRIMARY KEY,
    stamp BIGINT NOT NULL,
    status TEXT
);
