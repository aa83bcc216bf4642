-- For SQLite.

-- Rows are named by numbers and not by names: each of the trees that a row is in is then half as large, and what a
-- transaction changes of them is what it costs.
ALTER TABLE archive RENAME TO archive_before;

-- The numbers: of an account, whose party is empty, and of each party that it has messages with.
CREATE TABLE archive_name (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    party TEXT NOT NULL,
    UNIQUE (owner, party)
);
INSERT INTO archive_name (owner, party)
    SELECT owner, '' FROM archive_before UNION SELECT owner, with_bare FROM archive_before WHERE hidden = 0;

-- Rises whenever a number is taken back, which until then may be remembered anywhere.
CREATE TABLE archive_names (version BIGINT NOT NULL);
INSERT INTO archive_names (version) VALUES (0);

-- place is the order of delivery to the account; stamp need not follow it. What waits out of sight has no party.
CREATE TABLE archive (
    id INTEGER PRIMARY KEY,
    owner BIGINT NOT NULL,
    mid BLOB NOT NULL,
    place BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    party BIGINT,
    resource TEXT NOT NULL,
    hidden BIGINT NOT NULL,
    stanza TEXT NOT NULL
);
INSERT INTO archive (owner, mid, place, stamp, party, resource, hidden, stanza)
    SELECT own.id, unhex(mid), place, stamp, other.id, substr(with_full, length(with_bare) + 2), hidden, stanza
    FROM archive_before AS old
    CROSS JOIN archive_name AS own ON own.owner = old.owner AND own.party = ''
    LEFT JOIN archive_name AS other ON hidden = 0 AND other.owner = old.owner AND other.party = with_bare
    ORDER BY old.rowid;
DROP TABLE archive_before;

-- Ids begin with the time, so that new rows of all owners lie beside each other in an index that begins with them: a
-- transaction changes a few pages of it, and not one for each owner. They tell what is old, too.
CREATE UNIQUE INDEX archive_mid ON archive (mid, owner);
CREATE INDEX archive_place ON archive (owner, place) WHERE hidden = 0;
CREATE INDEX archive_with ON archive (party, place) WHERE hidden = 0;
CREATE INDEX archive_hidden ON archive (owner, place) WHERE hidden = 1;
