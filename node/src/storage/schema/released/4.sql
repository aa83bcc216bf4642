-- Accounts whose sessions are to end: their credentials have changed, or they are locked or gone. A row stays
-- until that is done.
CREATE TABLE revocation (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL
);
