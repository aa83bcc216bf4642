-- For SQLite, which cannot change the key of a table.

-- Ids begin with the time, so that new rows of all owners lie beside each other in an index that begins with them: a
-- transaction changes a few pages of it, and not one for each owner.
CREATE TABLE archive_by_id (
    owner TEXT NOT NULL,
    mid TEXT NOT NULL,
    place BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    with_bare TEXT NOT NULL,
    with_full TEXT NOT NULL,
    sent BIGINT NOT NULL,
    hidden BIGINT NOT NULL,
    stanza TEXT NOT NULL,
    PRIMARY KEY (mid, owner)
);
INSERT INTO archive_by_id (owner, mid, place, stamp, with_bare, with_full, sent, hidden, stanza)
    SELECT owner, mid, place, stamp, with_bare, with_full, sent, hidden, stanza FROM archive;
DROP TABLE archive;
ALTER TABLE archive_by_id RENAME TO archive;
CREATE INDEX archive_place ON archive (owner, place);
CREATE INDEX archive_with ON archive (owner, with_bare, place);
CREATE INDEX archive_stamp ON archive (stamp);
