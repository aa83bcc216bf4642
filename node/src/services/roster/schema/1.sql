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
