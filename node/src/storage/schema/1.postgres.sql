-- For PostgreSQL. It differs from SQLite in the type of bytes.

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
