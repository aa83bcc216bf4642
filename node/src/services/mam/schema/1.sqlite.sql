-- For SQLite. It differs from PostgreSQL in a collation.

-- place is the order of delivery to the account; stamp need not follow it.
CREATE TABLE archive (
    owner TEXT NOT NULL,
    mid TEXT NOT NULL,
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
