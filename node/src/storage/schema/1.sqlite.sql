-- For SQLite. It differs from PostgreSQL in the type of bytes.

CREATE TABLE account (
    localpart TEXT NOT NULL,
    domain TEXT NOT NULL,
    created BIGINT NOT NULL,
    disabled BIGINT NOT NULL DEFAULT 0,
    sha1_salt BLOB,
    sha1_iterations BIGINT,
    sha1_stored BLOB,
    sha1_server BLOB,
    sha256_salt BLOB,
    sha256_iterations BIGINT,
    sha256_stored BLOB,
    sha256_server BLOB,
    PRIMARY KEY (domain, localpart)
);

-- Random values that all nodes must agree on.
CREATE TABLE secret (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);
