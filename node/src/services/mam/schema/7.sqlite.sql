-- For SQLite, which cannot change the key of a table.

-- Ids begin with the time, so that new rows of all owners lie beside each other in an index that begins with them: a
-- transaction changes a few pages of it, and not one for each owner.
ALTER TABLE archive RENAME TO archive_before;
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
    PRIMARY KEY (mid, owner)
);
INSERT INTO archive (owner, mid, place, stamp, with_bare, with_full, sent, hidden, stanza)
    SELECT owner, mid, place, stamp, with_bare, with_full, sent, hidden, stanza FROM archive_before;
DROP TABLE archive_before;
CREATE INDEX archive_place ON archive (owner, place);
CREATE INDEX archive_with ON archive (owner, with_bare, place);
CREATE INDEX archive_stamp ON archive (stamp);
